"""Settings from files, variables and flags: typed, with origins, and every fault at once."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from nucleon.config import load, missing_servers, refuse_missing_servers, with_servers
from nucleon.errors import SetupError
from nucleon.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    dsn: Secret[str] | None = None
    maximum: int = 10
    patience_seconds: float = 2.0
    names: tuple[str, ...] = ()
    is_quick: bool = False

    def __post_init__(self) -> None:
        if self.maximum < 1:
            raise ValueError("maximum is at least 1")


TYPES = {"postgres": Store}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "config"
    place.mkdir()
    (place / "default.toml").write_text('# first\n[postgres]\nmaximum = 5\nnames = ["a"]\n')
    (place / "production.toml").write_text("[postgres]\nmaximum = 50\n")
    return place


def test_the_environments_file_goes_over_the_default_and_variables_and_flags_over_both(folder: Path) -> None:
    variables = {"NUCLEON_POSTGRES__PATIENCE_SECONDS": "7", "NUCLEON_POSTGRES__NAMES": "x, y", "NUCLEON_POSTGRES__IS_QUICK": "yes"}
    config = load(TYPES, environment="production", folder=folder, variables=variables, flags={"postgres.maximum": "70"})
    assert config.sections["postgres"] == Store(maximum=70, patience_seconds=7.0, names=("x", "y"), is_quick=True)
    assert config.origins["postgres", "maximum"] == "flag --maximum"
    without = load(TYPES, environment="production", folder=folder, variables={})
    assert without.sections["postgres"].maximum == 50
    assert without.origins["postgres", "maximum"] == "config/production.toml:2"
    assert without.origins["postgres", "names"] == "config/default.toml:4"


def test_all_faults_come_at_once_with_file_and_line_and_the_nearest_name(folder: Path) -> None:
    (folder / "default.toml").write_text('[postgress]\nmaximum = 1\nminimum = 1\n[postgres]\nmaximun = 2\nmaximum = "many"\n')
    with pytest.raises(SetupError) as caught:
        load(TYPES, environment="test", folder=folder, variables={"NUCLEON_TEST_POSTGRES__IS_QUICK": "perhaps"})
    said = str(caught.value)
    assert "config/default.toml:2: unknown section [postgress], did you mean 'postgres'?" in said
    assert "config/default.toml:5: unknown setting 'maximun' in [postgres], did you mean 'maximum'?" in said
    assert "config/default.toml:6: [postgres] maximum" in said
    assert "NUCLEON_TEST_POSTGRES__IS_QUICK" in said
    assert said.count("unknown section") == 1


def test_a_file_that_is_not_toml_is_named_with_its_line(folder: Path) -> None:
    (folder / "default.toml").write_text("[postgres]\nmaximum = \n")
    with pytest.raises(SetupError, match=r"config/default.toml:2: is not TOML"):
        load(TYPES, environment="test", folder=folder, variables={})


def test_a_test_run_ignores_the_variables_of_production(folder: Path) -> None:
    variables = {"DATABASE_URL": "postgresql://live/", "NUCLEON_POSTGRES__DSN": "postgresql://live/", "NUCLEON_TEST_POSTGRES__MAXIMUM": "3"}
    settings = load(TYPES, environment="test", folder=folder, variables=variables).sections["postgres"]
    assert (settings.dsn, settings.maximum) == (None, 3)
    tested = load(TYPES, environment="test", folder=folder, variables={"NUCLEON_TEST_DATABASE_URL": "postgresql://local/"})
    assert tested.sections["postgres"].dsn == Secret("postgresql://local/")


def test_a_secret_comes_from_a_file_and_is_never_shown(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("postgresql://u:hidden@db/\n")
    config = load(TYPES, environment="production", folder=folder, variables={"DATABASE_URL_FILE": str(tmp_path / "dsn")})
    assert config.sections["postgres"].dsn.reveal() == "postgresql://u:hidden@db/"
    assert "hidden" not in repr(config) + repr(list(config.rows()))


def test_a_variable_and_its_file_together_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("x")
    with pytest.raises(SetupError, match="keep one of them"):
        load(TYPES, variables={"DATABASE_URL": "y", "DATABASE_URL_FILE": str(tmp_path / "dsn")})


def test_values_that_do_not_fit_together_are_a_fault(folder: Path) -> None:
    with pytest.raises(SetupError, match="maximum is at least 1"):
        load(TYPES, environment="production", folder=folder, variables={}, flags={"postgres.maximum": "0"})


def test_an_unknown_environment_is_refused_with_the_nearest(folder: Path) -> None:
    with pytest.raises(SetupError, match="did you mean 'production'"):
        load(TYPES, environment="producton", folder=folder, variables={})


def test_production_without_a_server_names_the_setting(folder: Path) -> None:
    config = load(TYPES, environment="production", folder=folder, variables={})
    assert missing_servers(config) == [("postgres", "dsn")]
    with pytest.raises(SetupError, match=r"\[postgres\] dsn \(set DATABASE_URL"):
        refuse_missing_servers(config)
    filled = with_servers(config, {("postgres", "dsn"): "host=x"}, "embedded")
    assert filled.origins["postgres", "dsn"] == "embedded"
    refuse_missing_servers(filled)
