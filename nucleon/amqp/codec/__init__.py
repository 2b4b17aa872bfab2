"""AMQP 0-9-1 as values and bytes: no socket, no gevent, the same for a client and a server."""

from nucleon.amqp.codec import methods
from nucleon.amqp.codec.commands import BODY_LIMIT_BYTES, Command, CommandReader, Content
from nucleon.amqp.codec.frames import (
    FRAME_MINIMUM,
    HEARTBEAT_FRAME,
    PROTOCOL_HEADER,
    FrameReader,
    body_frames,
    command_frames,
    frame,
    method_frame,
)
from nucleon.amqp.codec.malformed import MalformedFrame
from nucleon.amqp.codec.method import BY_NUMBER, Method, decode_method, encode_method
from nucleon.amqp.codec.properties import NO_PROPERTIES, Properties, decode_properties, encode_properties
from nucleon.amqp.codec.tables import encode_table, read_table

__all__ = [
    "BODY_LIMIT_BYTES", "BY_NUMBER", "FRAME_MINIMUM", "HEARTBEAT_FRAME", "NO_PROPERTIES", "PROTOCOL_HEADER", "Command",
    "CommandReader", "Content", "FrameReader", "MalformedFrame", "Method", "Properties", "body_frames",
    "command_frames", "decode_method", "decode_properties", "encode_method", "encode_properties", "encode_table",
    "frame", "method_frame", "methods", "read_table",
]  # fmt: skip
