"""What stands behind a code name, for the nodes that serve `SelectPolicy`, and what a refusal may tell the blind."""

from __future__ import annotations

from pathlib import Path

from vla_rft_core.errors import VlaRftError
from vla_rft_interfaces.srv import SelectPolicy
from vla_rft_trials.identity import PolicyChangedError
from vla_rft_trials.protocol import PolicyEntry
from vla_rft_trials.study import Study, open_study

Response = SelectPolicy.Response


def opened(request: SelectPolicy.Request, response: Response) -> tuple[Study, PolicyEntry, str] | None:
    """(study, entry, stamp of the policy as it is now); None when the response says why not."""
    try:
        study = open_study(Path(request.study))
        entry, stamp = study.mapping().checked(request.code, study.protocol.policies)
    except PolicyChangedError as error:
        response.error_code, response.error_msg = Response.CHANGED, str(error)
        return None
    except VlaRftError as error:
        response.error_code, response.error_msg = Response.REFUSED, str(error)
        return None
    return study, entry, stamp


def refuse(response: Response, study: Study, code: str, error: Exception) -> Response:
    """The policy could not be made ready. In a blinded study the reason stays unsaid: it may name what is sealed."""
    why = f": {error}" if not study.protocol.blinded else "; unlock the study to learn why"
    response.error_code = Response.FAILED
    response.error_msg = f"the policy behind {code} cannot be made ready{why}"
    return response
