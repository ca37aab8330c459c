"""`worker start`: starts a command as a job."""

import asyncio
from collections.abc import Mapping
from uuid import uuid4

from ...client.client import Client
from ...client.errors import RpcError, ServerUnreachable
from ...client.job import Job
from ...core.model.job import JobSpec
from ..client_settings import ClientSettings, call, client_options
from ..exit_status import INTERRUPTED
from ..failures import failure
from ..help_page import command
from ..options.job_spec import COMMON_OPTIONS, JOB_COMMAND, SECTIONS, job_options, job_spec
from ..terminal.console import Failure, note, printable, say
from ..terminal.input_copy import InputCopy
from ..terminal.printed_objects import StartedObject
from ..terminal.show import format_option, show_json
from ..terminal.standard_input import StandardInput, has_end, hint_unused


@command(
    context_settings=JOB_COMMAND,
    common=COMMON_OPTIONS,
    sections=SECTIONS,
    examples=("worker start --name build make -j4", "worker start -e LANG=C --timeout 1h ./report.sh"),
)
@job_options
@format_option("json", prints=StartedObject)
@client_options
def start(
    settings: ClientSettings,
    request_id: str,
    secrets: Mapping[str, bytes],
    form: str | None,
    **job: object,
) -> None:
    """Start a command as a job.

    Everything from CMD on belongs to the job, including arguments that look like options.

    With -i, the job reads stdin. If stdin is a pipe or a file, all of it is passed on before this command
    ends, and then the job reads its end. Otherwise the stdin of the job stays open for `worker attach -i`.

    With -it, the job has a terminal for `worker attach -i`, and nothing of stdin is passed on.
    """
    spec = job_spec(job)
    passed = spec.stdin and spec.terminal is None and has_end()
    request_id = request_id or str(uuid4())
    stdin = InputCopy(StandardInput().read, session=request_id) if passed else None
    started = call(settings, lambda client: _start(client, spec, request_id, secrets, stdin))
    if form == "json":
        show_json(StartedObject(id=str(started)))
    else:
        say(f"Job {started} is started")


async def _start(
    client: Client,
    spec: JobSpec,
    request_id: str,
    secrets: Mapping[str, bytes],
    stdin: InputCopy | None,
) -> Job:
    job = await client.start(spec, request_id=request_id, secrets=secrets)
    if stdin is None:
        hint_unused(*([f"type it with `worker attach -i {job}`"] if spec.stdin else []))
        return job
    incomplete = f"job {job} is started, but did not get all of its input"
    try:
        await stdin.run(job)
    except asyncio.CancelledError:
        raise Failure(f"interrupted; {incomplete}", INTERRUPTED, code="CANCELLED") from None
    except (RpcError, ServerUnreachable) as error:
        raise failure(error, incomplete) from None
    except Failure as error:
        raise Failure(f"{error}; {incomplete}") from None
    if stdin.cut_off:
        if (await job.query()).ending is not None:  # its end closes its stdin too
            note("the job has ended before all of its input was passed on")  # unless an earlier start did
        else:
            note(f"the job did not get all of its input: {printable(stdin.cut_off)}")
    return job
