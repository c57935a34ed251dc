"""Programs for devices that are not here: bytes, FLOPs, loops and parts of a small program, counted by hand."""

import importlib.util
import json
import re

import pytest
from helpers import TINY_MODEL
from helpers.data import simulate_grouped
from helpers.errors import assert_facts, fails_with
from helpers.runs import run_command

from demega_jax.benchmark.targets.devices import TARGETS
from demega_jax.benchmark.targets.hlo import parse, shapes_of
from demega_jax.benchmark.targets.kernels import kernels
from demega_jax.benchmark.targets.modelled import modelled
from demega_jax.benchmark.targets.parts import kind_of, part_of
from demega_jax.names import TARGETS as NAMES

# A loop of three turns over a fusion of a product, and around it a slice, a look-up within a fusion, a library's
# product with its working memory, and a collective.
PROGRAM = """HloModule jit_step, is_scheduled=true

FileNames
1 "/somewhere/demega_jax/model/attend.py"
2 "/somewhere/demega_jax/training/step.py"

FunctionNames
1 "TrainStep.__call__"
2 "FeedForward.__call__"

FileLocations
1 {file_name_id=2 function_name_id=1 line=10 end_line=10 column=1 end_column=2}
2 {file_name_id=1 function_name_id=2 line=20 end_line=20 column=1 end_column=2}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}

%fused (a: f32[8,16], b: f32[16,4]) -> f32[8,4] {
  %a = f32[8,16]{1,0} parameter(0)
  %b = f32[16,4]{1,0} parameter(1)
  ROOT %dot = f32[8,4]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}, metadata={stack_frame_id=2}
}

%taken (t: bf16[100,16], i: s32[4,1]) -> bf16[4,16] {
  %t = bf16[100,16]{1,0} parameter(0)
  %i = s32[4,1]{1,0} parameter(1)
  ROOT %g = bf16[4,16]{1,0} gather(%t, %i), offset_dims={1}, metadata={op_name="jit(f)/attention_positions/gather"}
}

%body (s: (f32[8,16], f32[16,4])) -> (f32[8,16], f32[16,4]) {
  %s = (f32[8,16]{1,0}, f32[16,4]{1,0}) parameter(0)
  %x = f32[8,16]{1,0} get-tuple-element(%s), index=0
  %y = f32[16,4]{1,0} get-tuple-element(%s), index=1
  %f = f32[8,4]{1,0} fusion(%x, %y), kind=kCustom, calls=%fused, metadata={stack_frame_id=1}
  ROOT %out = (f32[8,16]{1,0}, f32[16,4]{1,0}) tuple(%x, %y)
}

%condition (s: (f32[8,16], f32[16,4])) -> pred[] {
  %s = (f32[8,16]{1,0}, f32[16,4]{1,0}) parameter(0)
  ROOT %c = pred[] constant(true)
}

ENTRY %main (p: (f32[8,16], f32[16,4]), t: bf16[100,16], i: s32[4,1]) -> f32[8,4] {
  %p = (f32[8,16]{1,0}, f32[16,4]{1,0}) parameter(0)
  %t = bf16[100,16]{1,0} parameter(1)
  %i = s32[4,1]{1,0} parameter(2)
  %w = (f32[8,16]{1,0}, f32[16,4]{1,0}) while(%p), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %look = bf16[4,16]{1,0} fusion(%t, %i), kind=kLoop, calls=%taken
  %x = f32[8,16]{1,0} get-tuple-element(%w), index=0
  %y = f32[16,4]{1,0} get-tuple-element(%w), index=1
  %part = f32[2,16]{1,0} slice(%x), slice={[0:2], [0:16]}
  %gemm = (f32[8,4]{1,0}, s8[4096]{0}) custom-call(%x, %y), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}}
  %z = f32[8,4]{1,0} get-tuple-element(%gemm), index=0
  ROOT %sum = f32[8,4]{1,0} all-reduce(%z), to_apply=%add
}
"""  # noqa: E501  (lines of a program)


@pytest.fixture(scope="module")
def found():
    program = parse(PROGRAM)
    return program, {kernel.instruction.name: kernel for kernel in kernels(program)}


def test_bytes_flops_and_runs_of_each_kernel(found):
    _, each = found
    product = 8 * 16 * 4 + 16 * 4 * 4 + 8 * 4 * 4
    wanted = {
        "f": (product, 2 * 8 * 4 * 16, 3),
        "look": (4 * 16 * 2 + 4 * 4 + 4 * 16 * 2, 0, 1),  # what is taken of the table, the numbers, the result
        "part": (2 * 2 * 16 * 4, 0, 1),
        "gemm": (product, 2 * 8 * 4 * 16, 1),  # without the 4096 bytes of working memory
        "sum": (2 * 8 * 4 * 4, 0, 1),
    }
    assert {name: (k.nbytes, k.flops, k.times) for name, k in each.items()} == wanted
    assert [name for name, kernel in each.items() if kernel.collective] == ["sum"]


def test_a_collective_that_is_started_has_the_bytes_of_one_that_is_waited_for():
    """What the start gives is its operand, which it does not write, and its result."""
    start = "((f32[8]{0}), f32[8]{0}) all-reduce-start(%p), to_apply=%add"
    text = "HloModule m\n\nENTRY %main (p: f32[8]) -> f32[8] {\n  %p = f32[8]{0} parameter(0)\n"
    text += f"  %start = {start}\n  ROOT %done = f32[8]{{0}} all-reduce-done(%start)\n}}\n"
    (kernel,) = kernels(parse(text))
    assert (kernel.collective, kernel.nbytes) == (True, 2 * 8 * 4)


COSTS = {
    "tpu_custom_call": '{"custom_call_config": {"cost_estimate": {"flops": 77, "bytes_accessed": 1000}, "body": "x"}}',
    "__gpu$xla.gpu.triton": r'{serialized_metadata = "{\22bytes_accessed\22: \221000\22, \22flops\22: \2277\22}"}',
    "else": "{}",
}


@pytest.mark.parametrize("kind", COSTS)
def test_a_kernel_of_pallas_counts_with_what_its_author_says(kind):
    """1000 bytes and 77 FLOPs, as a TPU's and a GPU's kernel say it; another custom call has its arrays' bytes."""
    call = f'custom-call(%p), custom_call_target="{kind}", backend_config={COSTS[kind]}'
    text = "HloModule m\n\nENTRY %main (p: f32[4]) -> f32[4] {\n  %p = f32[4]{0} parameter(0)\n"
    (kernel,) = kernels(parse(f"{text}  ROOT %c = f32[4]{{0}} {call}\n}}\n"))
    assert (kernel.nbytes, kernel.flops) == ((2 * 4 * 4, 0) if kind == "else" else (1000, 77))


def test_parts_are_those_of_the_source(found):
    program, each = found
    assert part_of(program, each["f"].instruction) == ("feed-forward", "attend.py:20")  # of the product within
    assert part_of(program, each["look"].instruction)[0] == "attention: positions"  # of the named scope
    assert part_of(program, each["part"].instruction)[0] == "other"
    kinds = [kind_of(program, each[name].instruction) for name in ("f", "look", "gemm", "part")]
    assert kinds == ["fusion+dot", "fusion+gather", "__cublas$gemm", "slice"]


def test_time_is_the_longest_of_traffic_products_and_start():
    target = TARGETS["h200"]
    whole = modelled(PROGRAM, target, 2, (5, 7), 1.5)
    assert whole.kernels == 7 and whole.seconds == pytest.approx(7 * target.launch_seconds)  # all are tiny
    one = whole.of_one(1)
    assert (one["kernels"], one["temporary_bytes"], one["collectives"], one["collective_bytes"]) == (7, 5, 1, 256)
    assert sum(part["ms"] for part in one["parts"].values()) == pytest.approx(one["modelled_step_ms"])
    tpu = modelled(PROGRAM, TARGETS["v5e"], 1, (0, 0), 0)
    wanted = sum(
        max(line.nbytes / TARGETS["v5e"].usable_bandwidth, line.flops / TARGETS["v5e"].usable_flops) * line.times
        for line in tpu.lines
        if not line.collective
    )
    assert tpu.seconds == pytest.approx(wanted + 256 / TARGETS["v5e"].link)


CONVOLUTIONS = {
    # [16, 4] products of [128, 32] and [32, 128], as a TPU's compiler writes them.
    "bf16[16,4,128,128] convolution(bf16[16,4,128,32] %a, bf16[16,4,32,128] %b), "
    "window={size=16x4 stride=15x3 lhs_dilate=16x4}, dim_labels=01bf_01io->01bf": 2 * 16 * 4 * 128 * 128 * 32,
    # A window of 5 over 128 time points: 2 + 1 places at each end meet nothing.
    "bf16[16,128,64] convolution(bf16[16,128,32] %a, bf16[5,32,64] %b), window={size=5 pad=2_2}, "
    "dim_labels=b0f_0io->b0f": 2 * 16 * 64 * 32 * (128 * 5 - 2 * 3),
    "bf16[16,64,64] convolution(bf16[16,128,32] %a, bf16[2,32,64] %b), window={size=2 stride=2}, "
    "dim_labels=b0f_0io->b0f": 2 * 16 * 64 * 32 * 128,
    "bf16[10,6] convolution(bf16[10,4] %a, bf16[4,6] %b), dim_labels=bf_io->bf": 2 * 10 * 4 * 6,
}


@pytest.mark.parametrize("line", CONVOLUTIONS)
def test_flops_of_convolutions_and_of_products_written_as_such(line):
    operands = re.findall(r"(bf16\[[0-9,]+\]) (%\w)", line)
    parameters = [f"  {name} = {shape} parameter({i})" for i, (shape, name) in enumerate(operands)]
    bare = re.sub(r"bf16\[[0-9,]+\] (?=%)", "", line)
    text = "\n".join(["ENTRY %main (a: f32[]) -> f32[] {", *parameters, f"  ROOT %c = {bare}", "}"])
    (kernel,) = kernels(parse(text))
    assert kernel.flops == CONVOLUTIONS[line]


def test_tiles_of_a_tpu_take_their_padding():
    (tiled,) = shapes_of("bf16[3,125]{1,0:T(8,128)(2,1)}")
    assert tiled.nbytes == 8 * 128 * 2
    (fast,) = shapes_of("f32[4,4]{1,0:T(8,128)S(1)}")
    assert fast.in_fast_memory
    # 306 sensors take 39 times 8 lines, and 125 time points one of 128; a GPU's arrays take what their numbers do.
    assert TARGETS["v5e"].padding(306, 125) == pytest.approx(312 * 128 / (306 * 125))
    assert TARGETS["rtx4080"].padding(306, 125) == 1


def test_targets_have_the_names_of_the_option():
    assert tuple(TARGETS) == NAMES
    text = TARGETS["a100"].description()
    assert "major: 8" in text and "core_count: 108" in text and text.count("{") == text.count("}")


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["--target", "h300"], ["h300", "h200"]),
        (["--target", "h200", "--stages"], ["--stages", "--target"]),
        (["--target", "h200", "--data", "."], ["--data", "--target"]),
        (["--dump", "x"], ["--dump", "--target"]),
        (["--target", "h200", "--devices", "3"], ["train.batch_size", "3 devices"]),
    ],
)
def test_what_is_refused(capsys, words, facts):
    fails_with(capsys, ["benchmark", *words], *facts)


INSTALLED = {
    "v5e": importlib.util.find_spec("libtpu") is not None,
    "h200": importlib.util.find_spec("jax_plugins") is not None,
}


@pytest.mark.skipif(any(INSTALLED.values()), reason="the compilers of the extra aot are here")
def test_without_the_compilers_one_line_says_what_to_install(capsys):
    small = [*TINY_MODEL, "train.batch_size=16"]
    fails_with(capsys, ["benchmark", "--target", "h200", *small], "NVIDIA H200", "aot", "make aot")


@pytest.mark.slow
@pytest.mark.parametrize("target", INSTALLED)
@pytest.mark.parametrize("feed", ["resident", "regroup", "stream"])
def test_small_steps_compile_for_devices_that_are_not_here(tmp_path, target, feed):
    if not INSTALLED[target]:
        pytest.skip("the extra aot is not installed (make aot)")
    steps = 1 if feed == "stream" else 2
    small = [*TINY_MODEL, "train.batch_size=16", f"train.steps_per_dispatch={steps}"]
    small += ["train.members=2"] if feed == "resident" else []
    out = ["--json", tmp_path / "t.json", "--plot", tmp_path / "t.png", "--dump", tmp_path / "d"]
    assert run_command("benchmark", "--target", target, "--feed", feed, "--devices", 2, *out, *small) == 0
    (case,) = json.loads((tmp_path / "t.json").read_text())["targets"]
    assert case["target"] == target and case["kernels"] > 20 and case["flops"] > 0 and case["collectives"] >= 1
    assert case["modelled_step_ms"] >= case["floor_ms"] and case["fits"]
    assert len(list((tmp_path / "d").iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize("target", INSTALLED)
def test_fused_attention_compiles_for_devices_that_are_not_here(tmp_path, target):
    """One layer, in one program of two devices: attention has a kernel a pass. On a GPU the feed-forward branch has
    one forward and two backward, and each of the four sums one a pass. Evaluation has the forward kernels alone."""
    if not INSTALLED[target]:
        pytest.skip("the extra aot is not installed (make aot)")
    small = [each for each in TINY_MODEL if "model.width" not in each]
    small += ["train.batch_size=16", "model.attention=fused", "model.width=32"]
    out = ["--json", tmp_path / "t.json", "--dump", tmp_path / "d"]
    words = ["--target", target, "--feed", "resident", "--devices", 2, "--precision", "bfloat16"]
    assert run_command("benchmark", *words, *out, *small) == 0
    name = "tpu_custom_call" if target == "v5e" else "__gpu$xla.gpu.triton"
    counts = {path.stem.rsplit("_", 1)[1]: path.read_text().count(f'"{name}"') for path in (tmp_path / "d").iterdir()}
    forward = {"v5e": 1, "h200": 1 + 1 + 4}[target]
    backward = {"v5e": 1, "h200": 1 + 2 + 4}[target]
    assert counts == {"train": forward + backward, "evaluation": forward}
    (case,) = json.loads((tmp_path / "t.json").read_text())["targets"]
    assert case["parts"]["attention: fused"]["flops"] > 0


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["--target", "h200"], ["--target", "--dry-run"]),
        (["--target", "h200", "--dry-run", "--parallel", "pmap"], ["--target", "--parallel pmap"]),
    ],
)
def test_what_train_refuses_with_a_target(capsys, words, facts):
    fails_with(capsys, ["train", "configs/tiny.yaml", *words], *facts)


@pytest.mark.slow
@pytest.mark.skipif(not all(INSTALLED.values()), reason="the extra aot is not installed (make aot)")
def test_a_dry_run_says_whether_a_training_run_fits_a_target(tmp_path, capsys):
    simulate_grouped(tmp_path, levels=[10], groups=96, sensors=5, time_points=9, seed=1)
    small = [*TINY_MODEL, "train.batch_size=16", "data.feed=resident"]
    words = ["configs/tiny.yaml", "--data", tmp_path, "--dry-run", "--target", "v5e", "--devices", 2]
    assert run_command("train", *words, *small) == 0
    assert_facts(capsys.readouterr().out, "2 x TPU v5e", "of 16.00 GiB on each device", "fits", "modelled step")
    fails_with(capsys, ["train", *words[:-1], 3, *small], "train.batch_size", "3 devices")
