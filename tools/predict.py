"""Predict with a trained segmentor, detector or classifier: images, folders, globs and videos; overlays, JSON, labels.

Writes OUT_DIR/overlays/NAME.png, or NAME.mp4 for a video. Of a classifier the five best classes of every picture are
printed and stand beside it. A file that cannot be read is reported and skipped; the exit code is then 1.

Example:
    python tools/predict.py configs/upernet_cyclemlp_b2_ade20k.py iter_160000.pth photos/ street.mp4 --labels
    python tools/predict.py configs/mask_rcnn_cyclemlp_b2_coco.py epoch_12.pth 'scans/*.png' --tile 1024x1024 --json
    python tools/predict.py configs/classify_cyclemlp_b2_imagenet.py CycleMLP_B2.pth photos/ --json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from _arguments import Parser, add_amp, add_config_options, parse_size, start


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument('config', help='config file that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='checkpoint file; of a classifier also a released file')
    parser.add_argument('inputs', nargs='+', help='image files, folders (every image below), quoted globs, videos')
    parser.add_argument(
        '--out-dir', type=Path, help='folder for all results; default work_dirs/<name of the config>/predictions'
    )
    parser.add_argument('--device', help='such as cpu or cuda:1; default: a GPU if there is one')
    add_amp(parser)
    parser.add_argument('--batch-size', type=int, default=1, help='images or tiles at once; default %(default)s')
    parser.add_argument('--score-thr', type=float, help='lowest score of a detection that is drawn; default 0.3')
    parser.add_argument(
        '--tile',
        type=parse_size,
        metavar='WxH',
        help='predict larger images by tiles of WIDTHxHEIGHT, each as if it were a test image',
    )
    parser.add_argument(
        '--overlap',
        type=int,
        metavar='N',
        help="pixels shared by neighbouring tiles; default a quarter of the tile's shorter side",
    )
    parser.add_argument(
        '--json',
        action='store_true',
        help="of a detector: all detections in COCO's result format, predictions.json, and dataset.json with its ids; "
        'of a classifier: predictions.json with the best classes of every picture',
    )
    parser.add_argument(
        '--labels', action='store_true', help='of a segmentor: labels/NAME.png with the class index of every pixel'
    )
    add_config_options(parser)
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    from mlp_dense.datasets.heads import ImageFileError
    from mlp_dense.engine.classes import best_classes
    from mlp_dense.engine.config import load_config
    from mlp_dense.errors import UserError, one_line
    from mlp_dense.folders import make_folder
    from mlp_dense.predict import Predictor, Writer, find_sources
    from mlp_dense.predict.ids import read_ids
    from mlp_dense.predict.inputs import count_pictures
    from mlp_dense.predict.loading import task_of
    from mlp_dense.predict.tiling import check_batch_size, check_tiling
    from mlp_dense.predict.writing import check_outputs

    out_dir = args.out_dir or Path('work_dirs', Path(args.config).stem, 'predictions')
    console, skipped = Console(stderr=True, highlight=False, markup=False, soft_wrap=True), []

    def skip(error: ImageFileError) -> None:
        skipped.append(error)
        console.print(f'skipped: {error}')

    check_batch_size(args.batch_size)
    task = task_of(load_config(args.config, args.cfg_options))
    check_tiling(args.tile, args.overlap, task)
    check_outputs(task, args.json, args.labels, args.score_thr)
    make_folder(out_dir, '--out-dir')
    sources = find_sources(args.inputs, skip)
    if not sources:
        raise UserError(f'nothing to predict: {", ".join(args.inputs)} stand for no image and no video')
    predictor = Predictor(args.config, args.checkpoint, args.device, args.cfg_options, args.amp)
    meta, done = predictor.model.dataset_meta, 0
    ids = read_ids(predictor.model.cfg, meta['classes']) if args.json and task == 'detector' else None
    if ids is not None and ids.note:
        console.print(f'category ids in predictions.json are class index + 1: {ids.note}')
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    score_thr = 0.3 if args.score_thr is None else args.score_thr
    with (
        Writer(out_dir, meta, task, score_thr, args.json, args.labels, ids) as writer,
        predictor.casts_kept(),
        Progress(*columns, console=console, redirect_stdout=sys.stdout.isatty()) as bar,
    ):
        shown = bar.add_task('predicting', total=count_pictures(sources))
        size = (args.batch_size, args.tile, args.overlap)
        for picture, sample in predictor.run(sources, *size, skip, lambda part: bar.advance(shown, part)):
            writer.write(picture, sample)
            if task == 'classifier':
                best = best_classes(sample.pred_score, meta['classes'])
                print(one_line(picture.path), *(f'  {score:.3f}  {name}' for _, name, score in best), sep='\n')
            done += 1
    counts = [f'{n} {noun}{"s" * (n != 1)}' for n, noun in ((done, 'picture'), (len(skipped), 'input'))]
    print(f'{counts[0]} predicted, in {out_dir}/; {counts[1]} skipped')
    return 1 if skipped else 0


def main(argv: Sequence[str] | None = None) -> int:
    return start(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
