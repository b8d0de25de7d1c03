"""ROS 2 messages without ROS: types, CDR bytes and the definitions that an MCAP file carries.

Knows the standard types of ROS 2 Jazzy and ours; what their fields mean is `codec`'s business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from vla_rft_core.config import did_you_mean
from vla_rft_episodes.errors import EpisodeError

OUR_PACKAGE = "vla_rft_interfaces"
SEPARATOR = "=" * 80 + "\n"
"""Between the definitions in a schema text."""
_EXCESS = 4
"""ROS leaves up to 7 bytes behind a last field that is an empty float64[]; rosbags itself tolerates 3."""


@cache
def our_definitions() -> Mapping[str, str]:
    """Type name -> text of our own message files, which ship as data beside this module."""
    files = [file for file in resources.files(__package__).joinpath("msg").iterdir() if file.name.endswith(".msg")]
    return {f"{OUR_PACKAGE}/msg/{file.name[:-4]}": file.read_text(encoding="utf-8") for file in files}


@cache
def typestore() -> Typestore:
    """All known types."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, text in our_definitions().items():
        store.register(get_types_from_msg(text, name))
    return store


def message_class(type_name: str) -> Any:
    """The dataclass of a message type, for example "geometry_msgs/msg/Pose"; EpisodeError when it is not known."""
    known = typestore().types
    if type_name not in known:
        close = [name for name in known if "/msg/" in name] if "/" in type_name else []
        raise EpisodeError(f"no message type {type_name!r}{did_you_mean(type_name, close) if close else ''}")
    return known[type_name]


@cache
def schema_text(type_name: str) -> str:
    """The definition with those of all types it uses, as MCAP's schema encoding "ros2msg" wants it."""
    message_class(type_name)
    generated = typestore().generate_msgdef(type_name, ros_version=2)[0]
    if type_name not in our_definitions():
        return generated
    _, separator, used = generated.partition(SEPARATOR)
    return our_definitions()[type_name] + separator + used  # the file says units, and quotes its string constants


@cache
def type_hash(type_name: str) -> str:
    """The RIHS01 hash by which ROS 2 tells versions of a type apart."""
    message_class(type_name)
    return typestore().hash_rihs01(type_name)


def serialize(type_name: str, message: Any) -> bytes:
    """Little-endian CDR with its 4-byte header, as ROS 2 sends it."""
    return bytes(typestore().serialize_cdr(message, type_name))


def deserialize(type_name: str, data: bytes) -> Any:
    """What `serialize` or ROS 2 wrote; EpisodeError when the bytes are not such a message."""
    try:
        return typestore().deserialize_cdr(data, type_name)
    except (SerdeError, UnicodeDecodeError) as error:
        if len(data) > _EXCESS:
            with contextlib.suppress(SerdeError, UnicodeDecodeError):
                return typestore().deserialize_cdr(data[:-_EXCESS], type_name)
        raise EpisodeError(f"{len(data)} bytes are no {type_name} ({error})") from None


def canonical(type_name: str, data: bytes) -> bytes:
    """The same message as `serialize` writes it: padding is zero, and nothing stands behind the last field."""
    return serialize(type_name, deserialize(type_name, data))
