"""Where the service listens."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Section [listen]. bind: addresses, each `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`; backlog: connections that wait for accept()."""

    bind: tuple[str, ...] = ("127.0.0.1:8000",)
    backlog: int = 1024

    def __post_init__(self) -> None:
        if not self.bind:
            raise ValueError("bind is empty: give at least one HOST:PORT or unix:PATH")
        if self.backlog < 1:
            raise ValueError(f"backlog is {self.backlog}: at least 1")
