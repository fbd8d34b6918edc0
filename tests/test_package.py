"""Laws of the package and the command line."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import ppfacerec
from ppfacerec import cli
from ppfacerec.cli.arguments import COMMANDS
from ppfacerec.cli.commands import infer
from ppfacerec.core import opencv

ROOT = Path(__file__).parents[1]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT)


def test_importing_the_package_imports_no_paddle():
    done = run("-c", "import sys, ppfacerec, ppfacerec.cli; print([m for m in ('paddle', 'cv2') if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_lower_floors_never_import_upper_ones():
    floors = [["engine", "cli"], ["data", "backbones", "heads", "losses", "optim", "metrics", "config", "registry.py"]]
    for name in floors[1]:
        path = ROOT / "ppfacerec" / name
        for file in [path] if path.is_file() else path.rglob("*.py"):
            for upper in floors[0]:
                assert f"ppfacerec.{upper}" not in file.read_text(), file


@pytest.mark.parametrize(
    "command", [["-m", "ppfacerec"], *sorted([str(p.relative_to(ROOT))] for p in (ROOT / "tools").glob("*.py"))]
)
def test_every_entry_has_help(command):
    done = run(*command, "--help")
    assert done.returncode == 0
    assert "usage: ppfacerec" in done.stdout


def test_version_is_the_packages():
    assert run("-m", "ppfacerec", "--version").stdout.strip() == f"ppfacerec {ppfacerec.__version__}"


@pytest.mark.slow
def test_a_mistake_is_a_message_and_not_a_traceback():
    done = run("tools/train.py", "-c", "configs/quickstart.yaml", "-o", "Global.epohs=1")
    assert done.returncode == cli.EXIT_ERROR
    assert "Global.epohs: unknown key. Did you mean 'epochs'?" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "give a config with -c" in run("tools/train.py").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "unknown command 'trian'. Did you mean 'train'?"),
        (
            ["train", "--epochs", "3"],
            "unknown argument --epochs. To change a value of the config: -o Global.epochs=3",
        ),
        (["train", "--batch-size=64"], "To change a value of the config: -o DataLoader.Train.sampler.batch_size=64"),
        (["eval", "--rport"], "unknown argument --rport. Did you mean '--report'?"),
    ],
)
def test_what_is_no_argument_gets_a_hint(arguments, words, capsys):
    with pytest.raises(SystemExit):
        cli.main(arguments)
    assert words in capsys.readouterr().err


def test_paddleclas_profiler_option_is_refused_with_the_reason(capsys):
    assert cli.main(["train", "-c", "quickstart", "-p", "batch_range=[10,20]"]) == cli.EXIT_ERROR
    assert "ppfacerec has no profiler: train.csv has the time of every step" in capsys.readouterr().out


def test_the_command_alone_lists_the_commands_and_help_shows_defaults(capsys):
    assert cli.main([]) == cli.EXIT_USAGE
    assert "convert-checkpoint" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["plan", "--help"])
    assert "length of an embedding (default: 512)" in " ".join(capsys.readouterr().out.split())


def test_shipped_configs_are_found_by_name(capsys):
    assert cli.main(["configs"]) == 0
    assert "\nquickstart " in capsys.readouterr().out
    assert cli.main(["configs", "quickstart"]) == 0
    assert capsys.readouterr().out == (ROOT / "configs" / "quickstart.yaml").read_text()
    assert cli.main(["train", "-c", "quikstart"]) == 1
    assert "the file does not exist. Did you mean 'quickstart'?" in capsys.readouterr().out


def test_opencv_without_libgl_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    opencv.import_cv2.cache_clear()
    try:
        with pytest.raises(ImportError, match="pip install opencv-python-headless"):
            opencv.import_cv2()
    finally:
        opencv.import_cv2.cache_clear()


def test_gpu_without_gpu_says_which_package_or_option_helps():
    import paddle

    from ppfacerec.core.device.runtime import choose_device

    if paddle.device.is_compiled_with_cuda():
        pytest.skip("this Paddle can use GPUs")
    with pytest.raises(ValueError, match=r'it is the CPU package; .*\[gpu\]".* -o Global\.device=cpu'):
        choose_device("gpu")
    assert choose_device("auto") == "cpu"


def test_a_build_for_gpus_without_one_computes_on_the_cpu_and_says_so(monkeypatch, log_lines):
    import paddle

    from ppfacerec.core.device.runtime import choose_device, device_problem

    monkeypatch.setattr(paddle.device, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 0)
    assert choose_device("auto") == "cpu"
    assert "Paddle is the GPU build but sees no GPU (see nvidia-smi and CUDA_VISIBLE_DEVICES)" in log_lines.text
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 2)
    assert device_problem("gpu:1") is None
    assert device_problem("gpu:2") == "Global.device is gpu:2, but there are 2 GPUs, numbered from 0."
    assert str(device_problem("cuda:1")).startswith("device: expected auto, cpu, gpu, or gpu:1 for one of several GPUs")


@pytest.mark.slow
def test_quickstart_makes_its_data_trains_and_evaluates(tmp_path, monkeypatch):
    """The README's first command, on data and a network small enough for CI."""
    monkeypatch.chdir(tmp_path)
    small = "{root: demo, num_identities: 4, images_per_identity: 4, num_pairs: 40, seed: 0}"
    overrides = [
        f"Global.demo_data={small}", "DataLoader.Train.dataset.image_root=demo", "Global.epochs=1",
        "DataLoader.Train.dataset.cls_label_path=demo/label.txt", "DataLoader.Eval.dataset.val_data_path=demo",
        "Arch.Head.class_num=4", "Global.eval_before_train=False",
    ]  # fmt: skip
    assert cli.main(["train", "-c", str(ROOT / "configs" / "quickstart.yaml"), "-o", *overrides]) == 0
    log = (tmp_path / "output" / "quickstart" / "train.log").read_text()
    for name in ("lfw", "cfp_fp", "agedb_30", "calfw", "cplfw", "average"):
        assert name in log
    assert "output/quickstart/best_model.pdparams" in log


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.run])
def test_every_command_names_a_function_of_its_own_module(name):
    module, _, function = COMMANDS[name].run.partition(":")
    found = importlib.import_module(f"ppfacerec.cli.commands.{module}")
    assert getattr(found, function).__module__ == found.__name__


@pytest.mark.parametrize("task", ["embed", "compare", "enroll", "search", "cluster"])
def test_every_task_of_infer_is_a_function_of_its_module(task):
    assert getattr(infer, task).__module__ == infer.__name__
