"""Which part of the model a kernel belongs to, by the functions and named scopes of the source that it comes from."""

import collections
import re

from demega_jax.benchmark.targets.hlo import Instruction, Program

OTHER = "other"
HEROES = ("dot", "convolution", "custom-call")
# (pattern of a function's or scope's name, part). The first pattern that one of them matches decides.
PARTS = tuple(
    (re.compile(pattern), part)
    for pattern, part in (
        (r"sorted_over_time|median_iqr|standardised|^normalize$|^inputs$", "input normalisation"),
        (r"augment", "augmentation"),
        (r"Noise\.(_?words|bits)|row_keys|random_bits", "dropout: random bits"),
        (r"Noise\.keep|^dropout$", "dropout: apply"),
        (r"attention_fused", "attention: fused"),
        (r"attention_positions|expand_pairs|\.tables$|^tables_of$", "attention: positions"),
        (r"attention_softmax|masked_softmax", "attention: softmax"),
        (r"attention_content|disentangled_scores", "attention: content scores"),
        (r"attention_values", "attention: values"),
        (r"DisentangledAttention", "attention: projections"),
        (r"ConvModule|DepthwiseConv", "convolution"),
        (r"FeedForward|^feedforward|^weights_of$", "feed-forward"),
        (r"Stem", "stem"),
        (r"Aggregator|IPAHead|ProjectionHead|DeMEGa\._heads", "heads"),
        (r"objective|class_loss|nt_xent|ipa_loss|row_losses", "losses"),
        (r"LayerNorm", "layer norm"),
        (r"ConformerLayer|ConformerEncoder", "residuals"),
        (r"_batch_of_shares|_gather|mean_windows|draw", "draw of a batch"),
        (r"DeMEGa", "model, other"),
        (r"ParameterGroups|update_fn|TrainStep\.(__call__|_average|gradients)|apply_updates|adam", "optimizer"),
    )
)
NEAR = {"layer norm": 6}  # parts whose functions call nothing else of the model: only so many frames are looked at


def part_of(program: Program, instruction: Instruction) -> tuple[str, str]:
    """(part, file:line of the innermost frame) of an instruction. A fusion has the part of the product in it, or else
    its own, or else the one that most of it has."""
    inner = list(program.inner(instruction).values()) if instruction.opcode == "fusion" else []
    for each in inner:
        if each.opcode in HEROES:
            return _part(program, each)
    part, place = _part(program, instruction)
    if part == OTHER:
        found = collections.Counter(_part(program, each) for each in inner)
        known = [each for each, _ in found.most_common() if each[0] != OTHER]
        return known[0] if known else (part, place)
    return part, place


def _part(program: Program, instruction: Instruction) -> tuple[str, str]:
    frames = list(program.stack(instruction))
    place = frames[0].place if frames else ""
    scopes = (instruction.field(r'op_name="([^"]*)"') or "").split("/")  # of `jax.named_scope`
    for pattern, part in PARTS:
        functions = [frame.function for frame in frames[: NEAR.get(part, len(frames))]]
        if any(pattern.search(name) for name in (*functions, *scopes)):
            return part, place
    return OTHER, place


def kind_of(program: Program, instruction: Instruction) -> str:
    """What kind of kernel it is, in a few words: a fusion with what is in it, a library call, or the opcode."""
    if instruction.opcode == "custom-call":
        return instruction.field(r'custom_call_target="([^"]*)"') or "custom call"
    if instruction.opcode != "fusion":
        return instruction.opcode
    held = {inner.opcode for inner in program.inner(instruction).values()}
    words = ("convolution", "dot", "reduce", "transpose", "sort", "scatter", "gather", "dynamic-update-slice")
    return "+".join(["fusion", *(word for word in words if word in held)])
