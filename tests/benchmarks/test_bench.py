"""bench.py: its numbers are what was measured, its tables show them, and what the user can mend is one line."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from runs import run_script

import mlp_dense.backbones
from benchmarks import run, timing
from benchmarks.bench import main
from benchmarks.cases import MATMUL_BOUND, ORIGINAL, PROJECT, REFERENCE, BackboneCase, How, OpCase
from benchmarks.growth import growth
from families import FAMILIES

FAST = ('--repeats', '3', '--min-time', '0')
PEERS = ('pvt_v2_b0', 'deit_tiny_patch16_224')  # the second is built for one image size
OP = ('op', '--channels', '7', '--size', '10x9', '--batch', '2')


@pytest.fixture(scope='module')
def tiny():
    """Every family has an arch called tiny."""
    with pytest.MonkeyPatch.context() as patch:
        for family in FAMILIES:
            patch.setitem(getattr(mlp_dense.backbones, family.type).archs, 'tiny', family.tiny)
        yield


@pytest.fixture
def untimed(monkeypatch):
    def refuse(*_):
        raise AssertionError('timed')

    monkeypatch.setattr(run, 'interleave', refuse)


# Times.


def test_rounds_are_interleaved_and_short_steps_are_repeated(monkeypatch):
    calls, clock = [], SimpleNamespace(now=0.0)
    monkeypatch.setattr(timing.time, 'perf_counter', lambda: clock.now)

    def step(name, seconds):
        def call():
            calls.append(name)
            clock.now += seconds

        return call

    steps = {name: step(name, seconds) for name, seconds in {'a': 1.0, 'b': 3.0, 'c': 0.25}.items()}
    seconds = timing.interleave(steps, range(8), min_seconds=1.0)
    assert seconds == {'a': [1.0] * 8, 'b': [3.0] * 8, 'c': [0.25] * 8}
    assert calls[:6] == ['a', 'a', 'b', 'b', 'c', 'c']  # before the first round
    rounds = [calls[start : start + 6] for start in range(6, len(calls), 6)]
    assert all(Counter(names) == {'a': 1, 'b': 1, 'c': 4} for names in rounds)
    assert len(rounds) == 8 and len({tuple(names) for names in rounds}) > 2


@pytest.mark.parametrize('name', [PROJECT, ORIGINAL])
def test_a_training_step_reaches_every_parameter_and_keeps_nothing(tiny, name):
    case = BackboneCase(1, 64, 64, 'auto', (), 'CycleMLP', 'tiny')
    step = timing.Step(case, name, How(train=True), {})
    step.run()
    assert all(weight.grad.isfinite().all() and weight.grad.any() for weight in step.module.parameters())
    step()
    assert all(weight.grad is None for weight in step.module.parameters())


@pytest.mark.parametrize('name', [PROJECT, REFERENCE, ORIGINAL])
def test_a_step_runs_the_operators_that_its_name_says(name, monkeypatch):
    backends = []
    monkeypatch.setattr(timing, 'prefer', lambda backend: backends.append(backend) or torch.no_grad())
    timing.Step(OpCase(1, 4, 4, 'native'), name, How(), {}).run()
    assert backends == ['native' if name == PROJECT else 'reference']


def test_numbers_are_quotients_of_medians():
    case = OpCase(3, 5, 6, 'auto', (), 4)
    seconds = {PROJECT: [1.0, 2.0, 9.0], ORIGINAL: [8.0, 4.0, 2.0], MATMUL_BOUND: [0.5, 1.0, 3.0]}
    rows = run.describe(case, case.gmacs(), seconds, {PROJECT: 10, ORIGINAL: 40})['implementations']
    row = rows[PROJECT]
    assert row['seconds'] == {'median': 2.0, 'quartiles': [1.5, 5.5], 'all': seconds[PROJECT]}
    assert row['images_per_second'] == 3 / 2
    assert row['gmacs_per_second'] == pytest.approx(3 / 2 * 4 * 4 * 5 * 6 / 1e9)
    assert row['speedup'] == {'value': 2.0, 'quartiles': pytest.approx([(2 + 2 / 9) / 2, 5.0])}
    assert row['time_over_matmul_bound'] == {'value': 2.0, 'quartiles': [2.0, 2.5]}
    assert (row['memory_bytes'], row['memory_over_baseline']) == (10, 0.25)
    assert 'memory_bytes' not in rows[MATMUL_BOUND]


def test_growth_is_fitted_over_pixels():
    sides = (256, 512, 1024)

    def cases(power, wide=()):
        sizes = [*wide, *((side, side) for side in sides)]
        rows = [{'x': {'seconds': {'median': 2e-9 * (h * w) ** power}}} for h, w in sizes]
        about = [{'settings': {'height': h, 'width': w}} for h, w in sizes]
        return [case | {'implementations': row} for case, row in zip(about, rows, strict=True)]

    linear = growth(cases(1.0, wide=[(512, 700)]), sides)['x']
    assert linear['sides'] == list(sides)
    assert linear['exponent'] == pytest.approx(1)
    assert linear['excess'] == pytest.approx(0, abs=1e-9)
    square = growth(cases(2.0), sides)['x']
    assert square['exponent'] == pytest.approx(2)
    assert square['excess'] == pytest.approx(15)  # 256 times the time for 16 times the pixels
    assert growth(cases(2.0), (256, 512))['x']['excess'] == pytest.approx(3)
    assert 'exponent' not in growth(cases(2.0), (256,))['x']


# The tool.


@pytest.fixture(scope='module')
def backbone_run(tiny, tmp_path_factory):
    """Return the document and the picture of a run with all that there is."""
    folder = tmp_path_factory.mktemp('benchmark')
    args = ['backbone', 'CycleMLP', 'tiny', '--size', '96x64', '--batch', '2', '--train', '--memory', *FAST]
    args += ['--peers', *PEERS, '--sides', '64', '32', '--plot', folder / 'time.png', '--json', folder / 'all.json']
    assert main([str(arg) for arg in args]) == 0
    return json.loads((folder / 'all.json').read_text()), folder / 'time.png'


def test_the_document_is_complete_and_consistent(backbone_run):
    document, _ = backbone_run
    assert document['mode'] == 'backbone' and document['model'] == 'CycleMLP-tiny'
    assert document['how']['train'] and document['how']['dtype'] == 'fp32'
    assert [case['label'] for case in document['cases']] == [f'{size}, batch 2' for size in ('96x64', '32x32', '64x64')]
    for case in document['cases']:
        rows = case['implementations']
        assert list(rows) == [PROJECT, ORIGINAL, MATMUL_BOUND, *PEERS] and case['baseline'] == ORIGINAL
        assert case['errors']['outputs'] < 1e-5 and case['errors']['gradients'] < 1e-4
        for row in rows.values():
            median = row['seconds']['median']
            assert len(row['seconds']['all']) == 3 and sorted(row['seconds']['all'])[1] == median
            assert row['images_per_second'] == pytest.approx(2 / median)
            assert row['gmacs_per_second'] == pytest.approx(2 * row['gmacs'] / median)
            original, bound = (rows[name]['seconds']['median'] for name in (ORIGINAL, MATMUL_BOUND))
            assert row['speedup']['value'] == pytest.approx(original / median)
            assert row['time_over_matmul_bound']['value'] == pytest.approx(median / bound)
        assert rows[PROJECT]['gmacs'] == rows[ORIGINAL]['gmacs'] == rows[MATMUL_BOUND]['gmacs'] > 0
        assert rows[PROJECT]['gmacs'] not in [rows[peer]['gmacs'] for peer in PEERS]
    first, *others = (case['implementations'] for case in document['cases'])
    assert {name for name, row in first.items() if row.get('memory_bytes', 0) > 0} == {PROJECT, ORIGINAL, *PEERS}
    assert not any('memory_bytes' in row for rows in others for row in rows.values())


def test_growth_is_in_the_document_and_drawn(backbone_run):
    document, picture = backbone_run
    medians = {case['label']: case['implementations'][PROJECT]['seconds']['median'] for case in document['cases']}
    grown = document['growth'][PROJECT]
    assert grown['sides'] == [32, 64]
    assert grown['seconds'] == [medians['32x32, batch 2'], medians['64x64, batch 2']]
    assert list(document['growth']) == [PROJECT, ORIGINAL, MATMUL_BOUND, *PEERS]
    with Image.open(picture) as image:
        assert image.format == 'PNG' and image.width > 1000
        assert len(image.convert('RGB').getcolors(1 << 20)) > 20


@pytest.mark.parametrize(
    'family', [family for family in FAMILIES if family.type != 'CycleMLP'], ids=lambda one: one.type
)
def test_every_other_family_is_compared_with_its_definition_at_any_size(family, tiny, capsys, tmp_path):
    file = tmp_path / 'all.json'
    args = ['backbone', family.type, 'tiny', '--size', '80x71', '--options', 'img_size=64', '--peers', *FAST]
    assert main([*args, '--train', '--dtype', 'bf16', '--channels-last', '--json', str(file)]) == 0
    output = ' '.join(capsys.readouterr().out.split())
    assert 'speed-up over reference' in output and 'outputs of the reference in bf16' in output
    (case,) = json.loads(file.read_text())['cases']
    assert list(case['implementations']) == [PROJECT, REFERENCE, MATMUL_BOUND]
    assert case['settings']['options'] == {'img_size': 64}


def test_the_four_stages_are_one_run(monkeypatch, capsys):
    monkeypatch.setattr('benchmarks.options.B2_STAGES', ((8, 16), (16, 8)))
    assert main(['op', '--stages', '--batch', '3', *FAST]) == 0
    out = capsys.readouterr().out
    assert out.index('8 channels x 16x16, batch 3') < out.index('16 channels x 8x8, batch 3')


@pytest.mark.slow
def test_the_command_prints_a_table_of_what_it_measured(tmp_path):
    file = tmp_path / 'all.json'
    args = [*OP, *FAST, '--kernel-size', '3', '1', '--threads', '1', '--memory', '--json', file]
    done = run_script(sys.executable, '-m', 'benchmarks.bench', *args)
    assert done.code == 0, done.tail
    rows = json.loads(file.read_text())['cases'][0]['implementations']
    lines = {name: line for line in done.output.splitlines() for name in line.split()[1:2]}
    for name, row in rows.items():
        cells = [cell.strip() for cell in lines[name].split('│')]
        assert cells[5].startswith(f'{row["gmacs_per_second"]:.3g}'[:4])
        assert cells[6].startswith(f'{row["speedup"]["value"]:.2f} (')
        assert cells[7].startswith(f'{row["time_over_matmul_bound"]["value"]:.2f} (')
        assert cells[9] == ('' if name == MATMUL_BOUND else f'{row["memory_over_baseline"]:.2f}')
    assert 'time / matmul bound' in done.output and 'speed-up over original' in done.output


def refusal(args, capsys) -> str:
    """Return the line of an error, of ours or of the parser."""
    try:
        code = main(args)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if 'error: ' in line]
    return line


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['backbone', 'CycleMPL', 'b1'], 'there is no family CycleMPL; there are CycleMLP, '),
        (['backbone', 'CycleMLP', 'b9'], 'CycleMLP has no arch b9; it has b1, b2'),
        (['backbone', 'MLPMixer', 's16', '--size', '8x8', '--peers'], 'does not take 8x8, batch 1: .*smaller than one'),
        (['backbone', 'CycleMLP', 'b1', '--size', '64,64'], "--size: '64,64' is no size; give WIDTHxHEIGHT"),
        (['backbone', 'CycleMLP', 'b1', '--sides', '64', '0'], '--sides: 0: give numbers from 1'),
        (['backbone', 'CycleMLP', 'b1', '--peers', 'swin_huge'], '--peers swin_huge: timm'),
        (['backbone', 'CycleMLP', 'b1', '--options', 'depth=3'], "--options: .*'depth'"),
        (['backbone', 'RaftMLP', 's', '--options', 'token_grid=cut'], "--options: token_grid must be one of .*'cut'"),
        (
            ['backbone', 'CycleMLP', 'b1', '--options', 'out_indices=[1,2'],
            '--options: the brackets or quotes do not match',
        ),
        (['backbone', 'CycleMLP', 'b1', '--plot', 'time.txt'], r'--plot time.txt: no picture format; .*\.png'),
        (['op', '--backend', 'triton'], "--backend: invalid choice: 'triton'"),
        (['op', '--json', 'nowhere/all.json'], 'nowhere/all.json cannot be written'),
        (['op', '--batch', '0'], '--batch: 0: give numbers from 1'),
        (['op', '--repeats', '1'], '--repeats: 1: give numbers from 2'),
        (['op', '--min-time', '-1'], '--min-time: -1: give numbers from 0.0'),
        (['op', '--threads', 'two'], "--threads: invalid number value: 'two'"),
        (['op', '--device', 'cuda:77'], '--device cuda:77: PyTorch sees'),
        (['op', '--device', 'tpu9000'], "--device: tpu9000: give 'cpu'"),
        (['op', '--device', 'meta'], "--device: meta: give 'cpu'"),
        (['op', '--kernel-size', '2', '2'], r'kernel_size must be .* got \(2, 2\)'),
    ],
    ids=lambda value: ' '.join(value[1:]) if isinstance(value, list) else '',
)
def test_what_the_user_can_mend_is_one_line(args, message, untimed, capsys):
    line = refusal(args, capsys)
    assert re.search(message, line), line
