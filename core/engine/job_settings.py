"""What a Worker decides about each new job besides what is requested."""

from dataclasses import dataclass

from ..model.client_id import ClientId
from ..model.combined_limits import combined
from ..model.grant import Grant
from ..model.job import JobRecord, JobSpec, check_output_max, new_job_id
from ..model.limits import LimitBounds


@dataclass(frozen=True, slots=True)
class JobSettings:
    """The settings of a Worker, described there; InvalidJobSpec if ``output_max`` is out of range."""

    limits: LimitBounds
    output_max: int
    signal_all: bool
    default_user: str | None

    def __post_init__(self) -> None:
        check_output_max(self.output_max)

    def record(
        self, spec: JobSpec, owner: ClientId, request_id: str, now: float, grant: Grant
    ) -> JobRecord:
        """Return the record of a new job; InvalidJobSpec for a limit above the maximum."""
        return JobRecord(
            new_job_id(),
            spec,
            owner.name,
            request_id,
            now,
            limits=combined(self.limits, grant.limits).apply(spec.limits),
            output_max=self.output_max if spec.output_max is None else spec.output_max,
            signal_all=spec.signal_all or self.signal_all,
            issuer=owner.issuer,
            user=self.default_user if spec.user is None else None,
            execution=grant.execution,
        )
