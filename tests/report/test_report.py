"""tools/report.py: the figures on the page are right, and the page itself is right in a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import given, run_tool, small_config, still

from mlp_dense.datasets.shapes import CLASSES, make_shapes
from mlp_dense.engine.latest import latest_checkpoint
from mlp_dense.errors import UserError
from mlp_dense.report.build import find_config

pytestmark = pytest.mark.slow

VAL = 5  # images
SECTIONS = ('curves', 'classes', 'confusion', 'gallery', 'speed', 'configuration', 'environment')
CHROMIUM = Path('/usr/bin/chromium')
FLAGS = '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
FLAGS += '--disable-component-update --disable-sync'
SURE = ('--score-thr', 0.01)  # a young detector is sure of nothing


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_shapes(root, train=4, val=VAL, size=(72, 64), seed=0)
    return root


@pytest.fixture(scope='module')
def reports(shapes, tmp_path_factory):
    """Of a small segmentor and a small detector: work dir, and what making its report printed."""
    made = {}
    for method, flags in (('semfpn', ()), ('retinanet', SURE)):
        work_dir = tmp_path_factory.mktemp(method)
        settings = given(method, shapes, **still(method), **{'default_hooks.logger.interval': 1})
        done = run_tool('train', small_config(method), '--work-dir', work_dir, '--seed', 0, *settings)
        assert done.code == 0, done.tail
        done = run_tool('report', work_dir, '--number', 2, *flags)
        assert done.code == 0, done.tail
        made[method] = work_dir, done
    return made


def page_of(report):
    return (report[0] / 'report.html').read_text()


def tiles(page):
    return dict(re.findall(r'<div class="tile[^>]*><dt>([^<]*)</dt><dd>([^<]*)</dd>', page))


def table(page):
    """Class -> its cells."""
    body = page.partition('<section id="classes">')[2].partition('</tbody>')[0].partition('<tbody>')[2]
    rows = [re.sub(r'<[^>]*>', '|', row).strip('|\n ') for row in body.split('</tr>')]
    cells = [[cell.strip() for cell in row.split('|') if cell.strip()] for row in rows]
    return {row[0]: row[1:] for row in cells if row}


def matrix(page):
    """Counts in the confusion matrix by (truth, prediction)."""
    found = re.findall(r'title="([^":]*) as ([^":]*): (\d+)"', page)
    return {(truth, prediction): int(count) for truth, prediction, count in found}


def scores(page, kind):
    part = page.partition(f'data-kind="{kind}"')[2].partition('data-kind=')[0].partition('<section')[0]
    return [float(score) for score in re.findall(r'<span class="number">\S+ ([\d.]+)</span>', part)]


def test_figures_of_a_segmentor_are_those_of_its_test(reports, shapes):
    work_dir, done = reports['semfpn']
    page, tested = page_of(reports['semfpn']), done.metrics('test')
    shown = tiles(page)
    names = {'mIoU': 'mIoU', 'Mean recall': 'mAcc', 'Pixel accuracy': 'aAcc'}
    assert all(abs(float(shown[ours]) - float(tested[theirs])) <= 0.051 for ours, theirs in names.items())
    assert shown['Test images'] == str(VAL)

    # The same from the files alone.
    counts, of_images = np.zeros((11, 11), int), []
    for path in sorted((shapes / 'annotations/validation').iterdir()):
        truth = np.asarray(Image.open(path)).astype(int) - 1
        predicted = np.asarray(Image.open(work_dir / f'report/predictions/{path.name}')).astype(int) - 1
        pairs = np.stack((truth[truth >= 0], predicted[truth >= 0]))
        np.add.at(counts, tuple(pairs), 1)
        shared = [((pairs == k).all(0).sum(), (pairs == k).any(0).sum()) for k in range(11)]
        of_images.append(100 * np.mean([both / either for both, either in shared if either]))
    assert matrix(page) == {(a, b): counts[i, j] for i, a in enumerate(CLASSES) for j, b in enumerate(CLASSES)}
    for k, name in enumerate(CLASSES):
        hits, truths, predictions = counts[k, k], counts[k].sum(), counts[:, k].sum()
        figures = [(hits, truths + predictions - hits), (hits, truths), (hits, predictions)]
        cells = [f'{100 * part / whole:.1f}' if whole else '-' for part, whole in figures]
        assert table(page)[name] == [f'{100 * truths / counts.sum():.1f} %', *cells]
    shown = scores(page, 'Best predictions') + scores(page, 'Worst predictions')[::-1]
    expected = sorted(of_images, reverse=True)
    assert shown == pytest.approx([*expected[:2], *expected[-2:]], abs=0.051)


def test_figures_of_a_detector_are_those_of_its_test(reports, shapes):
    work_dir, done = reports['retinanet']
    page, tested = page_of(reports['retinanet']), done.metrics('test')
    names = {'Box AP': 'coco/bbox_mAP', 'Box AP50': 'coco/bbox_mAP_50', 'Box AP75': 'coco/bbox_mAP_75'}
    for ours, theirs in names.items():
        assert float(tiles(page)[ours]) == pytest.approx(100 * max(0, float(tested[theirs])), abs=0.051)
    annotations = json.loads((shapes / 'annotations/instances_val2017.json').read_text())
    objects = [one for one in annotations['annotations'] if not one['iscrowd']]
    found = matrix(page)
    assert sum(count for (truth, _), count in found.items() if truth != 'nothing') == len(objects)
    assert sum(int(cells[0]) for cells in table(page).values()) == len(objects)
    assert sum(found.values()) > len(objects)  # boxes on nothing
    assert found['nothing', 'nothing'] == 0


def test_the_page_is_complete_and_asks_nobody_for_anything(reports):
    for method, report in reports.items():
        page = page_of(report)
        assert all(f'<section id="{name}">' in page for name in SECTIONS)
        assert re.findall(r'\w+://', page.partition('<pre')[0]) == []
        assert len(re.findall(r'<img src="data:image/webp;base64,', page)) == page.count('<img') == 3 * 4
        recorded = {'loss', 'lr', 'mIoU' if method == 'semfpn' else 'coco/bbox_mAP'}
        assert set(re.findall(r'<figure class="card" data-key="([^"]*)"><svg', page)) == recorded
        facts = dict(re.findall(r'<div><dt>([^<]*)</dt><dd>([^<]*)</dd></div>', page))
        assert re.fullmatch(r'\d+ ms per image, of which \d+ ms wait for data; batch size 1', facts['Test'])
        assert re.fullmatch(r'\d+ ms per iteration, [\d.]+ images/s per process', facts['Training'])
        assert 200 < int(facts['Memory of the test process'].split()[0]) < 20000
        assert facts['mlp_dense'] and facts['torch']
        assert facts['Model'].startswith('EncoderDecoder: CycleMLP' if method == 'semfpn' else 'RetinaNet: CycleMLP')
        assert 'AdamW, fused True, lr 0.002, weight_decay 0.05' in facts['Optimizer']
        assert "type='CycleMLP'" in html.unescape(page.partition('<pre')[2])


@pytest.mark.parametrize('method', ['semfpn', 'retinanet'])
def test_the_page_in_a_browser(method, reports, tmp_path):
    playwright = pytest.importorskip('playwright.sync_api', reason='pip install playwright')
    if not CHROMIUM.exists():
        pytest.skip('no browser; install it with: apt-get install -y chromium')
    with playwright.sync_playwright() as library:
        folder = tmp_path / 'profile'
        start = library.chromium.launch_persistent_context
        context = start(str(folder), executable_path=str(CHROMIUM), args=FLAGS.split())
        page, asked, told = context.new_page(), [], []
        page.on('request', lambda request: asked.append(request.url))
        page.on('console', lambda message: told.append(message.text))
        address = (reports[method][0] / 'report.html').as_uri()
        page.goto(address)
        for width, height, scheme in ((390, 844, 'light'), (1280, 900, 'light'), (1280, 900, 'dark')):
            page.set_viewport_size({'width': width, 'height': height})
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate('document.documentElement.scrollWidth') <= width
            assert page.evaluate(OUTSIDE) == []
            picture = tmp_path / f'{method}_{width}_{scheme}.png'
            page.screenshot(path=str(picture), full_page=True)
            assert Image.open(picture).size[0] == width
            light = np.asarray(Image.open(picture).convert('L')).mean()
            assert light < 100 if scheme == 'dark' else light > 150
        assert all(page.locator(f'section#{name}').is_visible() for name in SECTIONS)
        widths = page.evaluate('[...document.images].map(image => image.complete ? image.naturalWidth : 0)')
        assert len(widths) == 12
        assert min(widths) >= 360
        assert page.locator('#curves svg').count() == 3
        first = page.locator('#gallery figure').first
        small = first.locator('img').bounding_box()['height']
        first.click()
        assert first.locator('img').bounding_box()['height'] > 2 * small  # enlarged
        page.mouse.click(5, 5)
        assert first.locator('img').bounding_box()['height'] == small
        assert [url for url in asked if not url.startswith('data:')] == [address]
        assert told == []
        context.close()


# Elements that reach out of the window without a box around them that scrolls.
OUTSIDE = """[...document.querySelectorAll('main *, header *')].filter(element => {
    if (element.closest('.scroll') || element.closest('svg')) return false;
    const box = element.getBoundingClientRect();
    return box.right > innerWidth + 0.5 || box.left < -0.5;
}).map(element => element.outerHTML.slice(0, 80))"""


def test_the_training_wrote_its_curves_for_tensorboard(reports):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = reports['semfpn'][0].glob('2*/vis_data/events.out.tfevents.*')
    events = EventAccumulator(str(file)).Reload()
    assert [event.step for event in events.Scalars('loss')] == [1, 2, 3, 4]
    assert [event.step for event in events.Scalars('mIoU')] == [4]


def test_given_predictions_are_not_made_again(reports, shapes, tmp_path):
    work_dir = shutil.copytree(reports['semfpn'][0], tmp_path / 'work')
    for path in work_dir.glob('*.pth'):
        path.unlink()
    predictions = shutil.move(work_dir / 'report/predictions', tmp_path / 'labels')
    done = run_tool('report', work_dir, '--predictions', predictions, '--out', tmp_path / 'new/page.html')
    assert done.code == 0, done.tail
    page, before = (tmp_path / 'new/page.html').read_text(), page_of(reports['semfpn'])
    assert matrix(page) == matrix(before)
    assert tiles(page) == tiles(before)
    assert '<dt>Test</dt>' not in page
    assert 'test of ' not in done.output
    small = predictions / f'{sorted(path.stem for path in predictions.iterdir())[0]}.png'
    label_map = Image.open(small)
    label_map.point(lambda label: 99).save(small)
    done = run_tool('report', work_dir, '--predictions', predictions)
    assert f'{small} has labels of other classes' in done.error
    label_map.resize((10, 10), 0).save(small)
    done = run_tool('report', work_dir, '--predictions', predictions)
    assert f'{small} is 10 x 10 pixels and its truth 72 x 64' in done.error
    small.unlink()
    assert f'{predictions} lacks {small.name}' in run_tool('report', work_dir, '--predictions', predictions).error


def test_a_work_dir_that_was_moved_or_holds_too_little(reports, tmp_path):
    source = reports['semfpn'][0]
    work_dir = shutil.copytree(source, tmp_path / 'work')
    name = Path((source / 'last_checkpoint').read_text()).name
    (work_dir / 'last_checkpoint').write_text(f'/nowhere/{name}')
    assert latest_checkpoint(work_dir) == work_dir / name
    (work_dir / name).unlink()
    assert latest_checkpoint(work_dir) == work_dir / 'iter_2.pth'
    (work_dir / 'iter_2.pth').unlink()
    with pytest.raises(UserError, match='which is not beside it, and there is no other checkpoint; name the one'):
        latest_checkpoint(work_dir)

    (recorded,) = work_dir.glob('*/vis_data/config.py')
    assert find_config(work_dir) == recorded
    shutil.rmtree(recorded.parents[1])
    (own,) = work_dir.glob('*.py')
    assert find_config(work_dir) == own
    shutil.copy(own, work_dir / 'other.py')
    with pytest.raises(UserError, match=r'several configs \(other\.py, .*--config FILE'):
        find_config(work_dir)
    with pytest.raises(UserError, match='holds no config'):
        find_config(tmp_path)


def test_what_a_report_lacks_is_told_in_one_line(reports, shapes, tmp_path):
    segmentor, detector = (reports[method][0] for method in ('semfpn', 'retinanet'))
    assert 'nowhere does not exist' in run_tool('report', tmp_path / 'nowhere').error
    without = shutil.copytree(
        segmentor, tmp_path / 'without', ignore=shutil.ignore_patterns('*.pth', 'last_checkpoint')
    )
    assert 'holds no checkpoint; name one with --checkpoint' in run_tool('report', without).error
    assert '--number is -1' in run_tool('report', segmentor, '--number', -1).error
    assert 'x.pth does not exist' in run_tool('report', segmentor, '--checkpoint', tmp_path / 'x.pth').error
    given = ('--predictions', tmp_path / 'x.json')
    assert '--predictions' in run_tool('report', detector, *given).error
    other = tmp_path / 'other'
    make_shapes(other, train=1, val=VAL - 1, size=64, seed=0)
    given = ('--predictions', detector / 'report/predictions.json', '--cfg-options', f'data_root={other}')
    assert 'predictions of other images' in run_tool('report', detector, *given).error
