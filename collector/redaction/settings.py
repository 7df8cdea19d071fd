"""What a user may set on redaction."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from collector.redaction import checks
from collector.redaction.rules import Country, Group


class Mode(StrEnum):
    """What stands where a value stood."""

    KEYED = "keyed"
    """`<EMAIL:…>`: the same value has the same placeholder as long as the key is the same."""
    TYPE = "type"
    """`<EMAIL>`: nothing can be joined or compared any more."""


class RedactionSettings(BaseModel):
    """Settings of redaction; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    groups: tuple[Group, ...] = (Group.SECRETS,)
    """What is replaced before anything reaches the disk: secrets, financial, contact, national, network. [] is nothing."""
    mode: Mode = Mode.KEYED
    """keyed: the same value has the same placeholder, so that traces stay gradeable; type: nothing can be compared."""
    key: Annotated[SecretStr, Field(min_length=16)] | None = None
    """Key of the placeholders; best from the environment. Without it the one in `key_file` is used."""
    key_file: Path | None = None
    """Holds the key, and is made if it is not there; by default `redaction.key` in `data_dir`. Collectors should share one."""
    countries: tuple[Country, ...] = ()
    """ISO codes of the countries whose national identifiers and phone numbers are known, e.g. [US, DE]."""

    @field_validator("countries")
    @classmethod
    def _there(cls, countries: tuple[str, ...]) -> tuple[str, ...]:
        if countries:
            known = checks.regions()
            if strange := [country for country in countries if country not in known]:
                raise ValueError(
                    f"no country is called {', '.join(strange)}; write ISO 3166 codes, as GB for the United Kingdom"
                )
        return countries

    deny: tuple[str, ...] = ()
    """Attribute and JSON keys whose whole value is replaced; * stands for anything. Comes before everything else."""
    allow: tuple[str, ...] = ()
    """Attribute and JSON keys whose values are left as they are; * stands for anything."""
    rules: Path | None = None
    """YAML file with rules of your own; they come before the built-in ones."""
    detectors: tuple[str, ...] = ()
    """Installed detectors that also read every text; they cost what they cost."""
    detector_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How long the detectors may take for one request; its content is dropped if they take longer."""
