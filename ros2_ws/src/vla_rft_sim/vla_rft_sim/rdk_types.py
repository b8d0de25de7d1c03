"""The vendor's enums and structs: the names, values, defaults and manners of `flexivrdk` 1.9.4.1.

Enums compare equal to their own kind only; structs hand out copies, take no new attributes and cannot be pickled.
"""

# No deferred annotations here: those of the constructors are the kinds themselves.
import copy
import datetime
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

from vla_rft_sim.rdk_kinds import (
    BOOL,
    FLOAT,
    FLOATS,
    FLOATS3,
    FLOATS6,
    FLOATS7,
    INT,
    TEXT,
    TEXTS2,
    VENDOR,
    Kind,
    Mismatch,
    binding,
    either,
    instance,
    overloads,
    refusal,
    several,
)


class VendorEnum:
    """A number with a name; equal only to the same number of the same enum, and never to an int."""

    __slots__ = ("_value",)
    __members__: ClassVar[Mapping[str, Any]] = {}

    @binding
    def __init__(self, value: INT) -> None:
        object.__setattr__(self, "_value", value)

    @property
    def value(self) -> int:
        return self._value

    @property
    def name(self) -> str:
        return next((name for name, member in self.__members__.items() if member._value == self._value), "???")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._value == self._value

    def __hash__(self) -> int:
        return self._value

    def __int__(self) -> int:
        return self._value

    __index__ = __int__

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{self.name}: {self._value}>"

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    def __reduce__(self) -> Any:
        return type(self), (self._value,)


def _enum(name: str, **members: int) -> Any:
    cls: Any = type(name, (VendorEnum,), {"__slots__": (), "__module__": __name__})
    cls.__init__ = binding(VendorEnum.__init__.alternatives[0])
    cls.__init__.__set_name__(cls, "__init__")
    cls.__members__ = {member: cls(value) for member, value in members.items()}
    for member, value in cls.__members__.items():
        setattr(cls, member, value)
    return cls


CoordType = _enum("CoordType", WORLD=0, TCP=1)
Mode = _enum(
    "Mode",
    UNKNOWN=0,
    IDLE=1,
    NRT_JOINT_IMPEDANCE=4,
    NRT_JOINT_POSITION=6,
    NRT_PLAN_EXECUTION=7,
    NRT_PRIMITIVE_EXECUTION=8,
    NRT_CARTESIAN_MOTION_FORCE=10,
    NRT_SUPER_PRIMITIVE=11,
)
OperationalStatus = _enum(
    "OperationalStatus",
    UNKNOWN=0,
    READY=1,
    BOOTING=2,
    ESTOP_NOT_RELEASED=3,
    NOT_ENABLED=4,
    RELEASING_BRAKE=5,
    MINOR_FAULT=6,
    CRITICAL_FAULT=7,
    IN_REDUCED_STATE=8,
    IN_RECOVERY_STATE=9,
    IN_MANUAL_MODE=10,
    IN_AUTO_MODE=11,
)
RobotEvent_Level = _enum("RobotEvent_Level", UNKNOWN=0, INFO=1, WARNING=2, ERROR=3, CRITICAL=4)


class Field:
    """One value of a struct: reading copies it, writing converts it."""

    def __init__(self, kind: Kind, default: Any) -> None:
        self.kind, self.default = kind, default
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, this: Any, owner: type) -> Any:
        return self if this is None else copy.copy(this._values.get(self.name, self.default))

    def __set__(self, this: Any, value: Any) -> None:
        try:
            this._values[self.name] = self.kind.convert(value)
        except Mismatch:
            line = f"(self: {VENDOR}.{type(this).__name__}, arg0: {self.kind.accepts}) -> None"
            raise refusal("", [line], (this, value), {}) from None

    def __delete__(self, this: Any) -> NoReturn:
        raise AttributeError(f"property of {type(this).__name__!r} object has no deleter")


class Struct:
    """Plain data of the library."""

    __slots__ = ("_values",)

    def __new__(cls, *arguments: Any, **keywords: Any) -> Any:
        this = super().__new__(cls)
        this._values = {}
        return this

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(f"cannot pickle '{VENDOR}.{type(self).__name__}' object")

    def __repr__(self) -> str:
        return f"<struct flexiv::rdk::{type(self).__name__}>"

    def _fill(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)


def fields_of(struct: type) -> dict[str, Field]:
    """The struct's fields by name."""
    return {name: field for name, field in vars(struct).items() if isinstance(field, Field)}


def filled(struct: type, values: Mapping[str, Any]) -> Any:
    """A new struct with these values."""
    made = struct()
    made._fill(**values)
    return made


def _struct(name: str, /, **fields: tuple[Kind, Any]) -> Any:
    def empty(self) -> None:
        pass

    empty.__name__ = "__init__"
    content = {field: Field(kind, default) for field, (kind, default) in fields.items()}
    return type(name, (Struct,), {"__slots__": (), "__module__": __name__, "__init__": binding(empty), **content})


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


class _Readable(Struct):
    """A struct that shows its values."""

    __slots__ = ()
    _order: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={_shown(getattr(self, name))}" for name in self._order)
        return f"flexivrdk.{type(self).__name__}({values})"


def _spaced(*lists: list[Any]) -> str:
    return " ".join(_shown(value) for values in lists for value in values)


ZEROS3, ZEROS6, ZEROS7 = [0.0] * 3, [0.0] * 6, [0.0] * 7


class JPos(_Readable):
    """Joint positions [degree], external axes [m or degree]."""

    __slots__ = ()
    _order = ("q_m", "q_e")
    q_m = Field(FLOATS7, ZEROS7)
    q_e = Field(FLOATS6, ZEROS6)

    def __init__(self) -> None:
        pass

    _default = __init__

    def __init__(self, _q_m: FLOATS7, _q_e: FLOATS6 = ZEROS6) -> None:
        self._fill(q_m=_q_m, q_e=_q_e)

    __init__ = overloads(_default, __init__)
    del _default

    def __str__(self) -> str:
        return _spaced(self.q_m, self.q_e)


class Coord(_Readable):
    """A pose in a named frame: position [m], Euler angles [degree]."""

    __slots__ = ()
    _order = ("position", "orientation", "ref_frame", "ref_q_m", "ref_q_e")
    position = Field(FLOATS3, ZEROS3)
    orientation = Field(FLOATS3, ZEROS3)
    ref_frame = Field(TEXTS2, ["", ""])
    ref_q_m = Field(FLOATS7, ZEROS7)
    ref_q_e = Field(FLOATS6, ZEROS6)

    def __init__(self) -> None:
        pass

    _default = __init__

    def __init__(
        self,
        _position: FLOATS3,
        _orientation: FLOATS3,
        _ref_frame: TEXTS2,
        _ref_q_m: FLOATS7 = ZEROS7,
        _ref_q_e: FLOATS6 = ZEROS6,
    ) -> None:
        self._fill(
            position=_position, orientation=_orientation, ref_frame=_ref_frame, ref_q_m=_ref_q_m, ref_q_e=_ref_q_e
        )

    __init__ = overloads(_default, __init__)
    del _default

    def __str__(self) -> str:
        frame = " ".join(self.ref_frame)
        return f"{_spaced(self.position, self.orientation)} {frame} {_spaced(self.ref_q_m, self.ref_q_e)}"


class NrtCartesianCmd(_Readable):
    """One waypoint of a Cartesian motion: pose [m, wxyz], wrench, twist, caps and duration [s] (0: free)."""

    __slots__ = ()
    _order = (
        *("pose_d", "wrench_d", "twist_d"),
        *("max_linear_vel", "max_angular_vel", "max_linear_acc", "max_angular_acc", "duration"),
    )
    pose_d = Field(FLOATS7, ZEROS7)
    wrench_d = Field(FLOATS6, ZEROS6)
    twist_d = Field(FLOATS6, ZEROS6)
    max_linear_vel = Field(FLOAT, 0.5)
    max_angular_vel = Field(FLOAT, 1.0)
    max_linear_acc = Field(FLOAT, 2.0)
    max_angular_acc = Field(FLOAT, 5.0)
    duration = Field(FLOAT, 0.0)

    def __init__(self) -> None:
        pass

    _default = __init__

    def __init__(
        self,
        pose_d: FLOATS7,
        wrench_d: FLOATS6 = ZEROS6,
        twist_d: FLOATS6 = ZEROS6,
        max_linear_vel: FLOAT = 0.5,
        max_angular_vel: FLOAT = 1.0,
        max_linear_acc: FLOAT = 2.0,
        max_angular_acc: FLOAT = 5.0,
        duration: FLOAT = 0.0,
    ) -> None:
        self._fill(pose_d=pose_d, wrench_d=wrench_d, twist_d=twist_d, duration=duration)
        self._fill(max_linear_vel=max_linear_vel, max_angular_vel=max_angular_vel)
        self._fill(max_linear_acc=max_linear_acc, max_angular_acc=max_angular_acc)

    __init__ = overloads(_default, __init__)
    del _default

    __str__ = _Readable.__repr__


GripperParams = _struct(
    "GripperParams",
    name=(TEXT, ""),
    **{f"{end}_{what}": (FLOAT, 0.0) for what in ("width", "vel", "force") for end in ("min", "max")},
)
GripperStates = _struct("GripperStates", width=(FLOAT, 0.0), force=(FLOAT, 0.0), is_moving=(BOOL, False))
PlanInfo = _struct(
    "PlanInfo",
    **{name: (TEXT, "") for name in ("assigned_plan_name", "node_name", "node_path", "node_path_number")},
    node_path_time_period=(TEXT, ""),
    pt_name=(TEXT, ""),
    velocity_scale=(FLOAT, 0.0),
    waiting_for_step=(BOOL, False),
)
RobotActions = _struct(
    "RobotActions",
    **{name: (FLOATS, []) for name in ("q_d", "dq_d", "tau_d")},
    tcp_pose_d=(FLOATS7, ZEROS7),
    tcp_vel_d=(FLOATS6, ZEROS6),
    ext_wrench_d=(FLOATS6, ZEROS6),
)
RobotInfo = _struct(
    "RobotInfo",
    **{name: (TEXT, "") for name in ("serial_num", "software_ver", "model_name", "license_type")},
    **{name: (INT, 0) for name in ("DoF", "DoF_m", "DoF_e")},
    K_x_nom=(FLOATS6, ZEROS6),
    **{name: (FLOATS, []) for name in ("K_q_nom", "q_min", "q_max", "dq_max", "tau_max")},
    has_FT_sensor=(BOOL, False),
)


def _moment(value: Any) -> tuple[int, int]:
    seconds, nanoseconds = several(INT, 2).convert(value)
    return seconds, nanoseconds


_MOMENT = Kind(f"tuple[{INT.accepts}, {INT.accepts}]", "tuple[int, int]", _moment)
RobotStates = _struct(
    "RobotStates",
    timestamp=(_MOMENT, (0, 0)),
    **{name: (FLOATS, []) for name in ("q", "theta", "dq", "dtheta", "tau", "tau_dot", "tau_ext", "tau_interact")},
    temperature=(FLOATS, []),
    **{name: (FLOATS7, ZEROS7) for name in ("tcp_pose", "flange_pose")},
    **{name: (FLOATS6, ZEROS6) for name in ("tcp_vel", "ft_sensor_raw", "ext_wrench_in_tcp", "ext_wrench_in_world")},
    **{name: (FLOATS6, ZEROS6) for name in ("ext_wrench_in_tcp_raw", "ext_wrench_in_world_raw")},
)
ToolParams = _struct(
    "ToolParams", mass=(FLOAT, 0.0), CoM=(FLOATS3, ZEROS3), inertia=(FLOATS6, ZEROS6), tcp_location=(FLOATS7, ZEROS7)
)


def _naive(value: Any) -> datetime.datetime:
    if not isinstance(value, datetime.datetime):
        raise Mismatch
    return value.replace(tzinfo=None)


_DATETIME = Kind("datetime.datetime", "datetime.datetime", _naive)
RobotEvent = _struct(
    "RobotEvent",
    level=(instance(RobotEvent_Level), RobotEvent_Level.UNKNOWN),
    id=(INT, 0),
    **{name: (TEXT, "") for name in ("description", "consequences", "probable_causes", "recommended_actions")},
    timestamp=(_DATETIME, datetime.datetime(1970, 1, 1)),
)
RobotEvent.Level = RobotEvent_Level

_ONE = (INT, FLOAT, TEXT, instance(JPos), instance(Coord))
VALUE = either(*_ONE, *map(several, _ONE))
"""What primitives and global variables are made of."""

ENUMS = (CoordType, Mode, OperationalStatus, RobotEvent_Level)
STRUCTS = (
    *(Coord, GripperParams, GripperStates, JPos, NrtCartesianCmd, PlanInfo, RobotActions, RobotEvent, RobotInfo),
    *(RobotStates, ToolParams),
)
