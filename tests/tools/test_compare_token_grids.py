"""The comparison's table; its runs are those of tools/train.py and tools/test.py, which have tests of their own."""

import importlib.util
import json

from runs import ROOT

from mlp_dense.backbones._paper import families

spec = importlib.util.spec_from_file_location('compare_token_grids', ROOT / 'tools/dev/compare_token_grids.py')
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def test_table_has_mean_spread_and_gaps(tmp_path, capsys):
    results = {f'700 vip {seed} window 240x240': value for seed, value in ((0, 50.0), (1, 54.0), (2, 52.0))}
    results['700 vip 1 - 160x160'] = 61.0
    (tmp_path / 'results.json').write_text(json.dumps(results))
    assert tool.main(['--markdown', '--work-dir', str(tmp_path)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert '| VisionPermutator | window | 61.0 (0.0) | 52.0 (4.0) | not measured | 3 |' in rows
    assert '| VisionPermutator | overlap | 61.0 (0.0) | not measured | not measured | 1 |' in rows
    assert '| CycleMLP | - | not measured | not measured | not measured | 0 |' in rows
    assert len(rows) == 2 + 1 + 3 * (len(families()) - 1)


def test_every_run_is_named_once():
    args = tool.parse_args([])
    runs = [tool.key_of(args, *run) for run in tool.runs(args)]
    assert len(runs) == len(set(runs)) == 3 * (3 + (len(families()) - 1) * (1 + 2 * 3))
