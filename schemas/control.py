"""Commands of operators on the topic exchange `heimdall.control`, and the workers' answers.

Commands name actions, never locations. They count only with a broker-validated `user_id` on the worker's allow-list.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

EXCHANGE: Final = "heimdall.control"
ALL_WORKERS: Final = "worker.all"
"""Routing key that every worker hears; `worker.{instance}` reaches one."""

CommandId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]


class _Command(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    command_id: CommandId = Field(description="A command that was carried out is not carried out again.")


class Ping(_Command):
    """Answer that you are there."""

    command: Literal["ping"]


class Info(_Command):
    """Say what you serve."""

    command: Literal["info"]


class Reload(_Command):
    """Read the registry again, and serve what it says now."""

    command: Literal["reload"]
    expect: Annotated[str, Field(pattern=r"^[0-9]{1,12}$")] | None = Field(
        None, description="The production version the registry should name; a worker that finds another says so."
    )


class Pause(_Command):
    """Take no jobs until told to resume. To all workers: the registry's tag decides, so that later ones pause too."""

    command: Literal["pause"]


class Resume(_Command):
    """Take jobs again."""

    command: Literal["resume"]


class Drain(_Command):
    """Take no jobs, and answer when nothing is held any more."""

    command: Literal["drain"]


Command = Annotated[Ping | Info | Reload | Pause | Resume | Drain, Field(discriminator="command")]
COMMAND: Final[TypeAdapter[Command]] = TypeAdapter(Command)


class ServedVersion(BaseModel):
    """A model version and the part it plays."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    version: str
    alias: str
    digest: str


class CommandReply(BaseModel):
    """What one worker did with a command."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    command_id: str | None
    command: str | None
    instance: str
    ok: bool
    detail: str = Field(description="What was done, or why it was not.")
    state: str = Field(description="`serving`, or why no jobs are taken.")
    serving: list[ServedVersion]
