"""The page of the API, from worker.proto and its comments."""

import re
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2 as pb
from grpc_tools import protoc

PROTO = Path(__file__).parents[2] / "proto"
TYPES = {
    number: name.removeprefix("TYPE_").lower() for name, number in pb.FieldDescriptorProto.Type.items()
}


def methods_page() -> str:
    """Return the page: the service with its methods, then messages and enums."""
    file, comments = _read()
    (service,) = file.service
    parts = ["# The API", "", _comment(comments, 6, 0), "", "## Methods", ""]
    for index, method in enumerate(service.method):
        request, reply = (kind.rpartition(".")[2] for kind in (method.input_type, method.output_type))
        arrow = f"{'stream ' if method.client_streaming else ''}[{request}](#{request.lower()})"
        answer = f"{'stream ' if method.server_streaming else ''}[{reply}](#{reply.lower()})"
        parts += [
            f"### {method.name}",
            "",
            f"{arrow} → {answer}",
            "",
            _comment(comments, 6, 0, 2, index),
            "",
        ]
    parts += ["## Messages", ""]
    for index, message in enumerate(file.message_type):
        parts += [f"### {message.name}", "", _comment(comments, 4, index), ""]
        parts += [*_fields(message, comments, index), ""]
    parts += ["## Enums", ""]
    for index, enum in enumerate(file.enum_type):
        parts += [f"### {enum.name}", "", _comment(comments, 5, index), ""]
        for number, value in enumerate(enum.value):
            parts.append(
                f"- `{value.name}` = {value.number}: {_inline(_comment(comments, 5, index, 2, number))}"
            )
        parts.append("")
    return "\n".join(parts)


def _fields(message: pb.DescriptorProto, comments: dict[tuple[int, ...], str], index: int) -> list[str]:
    if not message.field:
        return []
    rows = ["| field | number | type | meaning |", "|---|---|---|---|"]
    entries = {each.name: each for each in message.nested_type}
    for number, field in enumerate(message.field):
        text = _inline(_comment(comments, 4, index, 2, number)).replace("|", "\\|")
        rows.append(f"| `{field.name}` | {field.number} | {_type(field, entries)} | {text} |")
    return rows


def _type(field: pb.FieldDescriptorProto, entries: dict[str, pb.DescriptorProto]) -> str:
    name = field.type_name.rpartition(".")[2]
    if name in entries:
        key, value = (_type(each, {}) for each in entries[name].field)
        return f"map of {key} to {value}"
    kind = f"[{name}](#{name.lower()})" if name else TYPES[field.type]
    if field.label == pb.FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {kind}"
    return f"optional {kind}" if field.proto3_optional else kind


def _read() -> tuple[pb.FileDescriptorProto, dict[tuple[int, ...], str]]:
    """Return the description of worker.proto, and its comments by path (SourceCodeInfo)."""
    with tempfile.TemporaryDirectory() as out:
        arguments = [f"--proto_path={PROTO}", "--include_source_info", f"--descriptor_set_out={out}/set"]
        if protoc.main(["protoc", *arguments, "worker.proto"]) != 0:
            raise SystemExit("protoc failed")
        (file,) = pb.FileDescriptorSet.FromString(Path(out, "set").read_bytes()).file
    return file, {tuple(each.path): each.leading_comments for each in file.source_code_info.location}


def _comment(comments: dict[tuple[int, ...], str], *path: int) -> str:
    """Return a comment as Markdown: deeper lines below "Errors:" are a list."""
    text = re.sub(r"^ ", "", comments.get(path, ""), flags=re.MULTILINE)
    text = re.sub(
        r"^    +(?! *[A-Z_]+: )", "  ", text, flags=re.MULTILINE
    )  # a line that continues an entry
    text = re.sub(r"^ +([A-Z_]+): ", r"- \1: ", text, flags=re.MULTILINE)
    text = re.sub(r"^(Right|Repeat|Errors): ?", r"\n**\1**: ", text, flags=re.MULTILINE)
    return re.sub(
        r"(`[^`]*`)|([<*](?!\*))", lambda found: found[1] or found[0].replace("<", "\\<"), text
    ).strip()


def _inline(text: str) -> str:
    return " ".join(text.split())
