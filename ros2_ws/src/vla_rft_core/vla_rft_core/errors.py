"""The domain's errors. A user's mistake in a value is a `ValueError`; these are for everything else."""


class VlaRftError(Exception):
    """Base of the family: its message is one sentence that can be shown to an operator."""


class SpecMismatchError(VlaRftError):
    """Two robot specs differ; the message names the first field and both values."""


class StaleInputError(VlaRftError):
    """An input of an observation is older than allowed; the message names it and its age."""


class ModeError(VlaRftError):
    """A mode change or a command that the present mode does not permit."""


class ManifestError(VlaRftError):
    """A folder does not match its manifest: missing, foreign or altered files."""


class DeviceError(VlaRftError):
    """A device failed or is gone; motion must stop."""


class ConnectionLostError(DeviceError):
    """A device does not answer any more; preparing it may connect anew."""
