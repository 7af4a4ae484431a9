"""local/setup_env.py, what the shell script asks a Python."""

import importlib.metadata
import importlib.util
import subprocess
import sys

import pytest
from machine import ROOT

spec = importlib.util.spec_from_file_location("setup_env", ROOT / "local/setup_env.py")
setup_env = importlib.util.module_from_spec(spec)
spec.loader.exec_module(setup_env)


class TestMissing:
    def test_reads_the_requirements_without_running_setup_py(self, tmp_path):
        file = tmp_path / "setup.py"
        file.write_text(
            'raise SystemExit\nREQUIRES = ["a==1", "b"]\nEXTRAS = {"x": ["c"]}\n'
        )

        assert setup_env.read_requirements(file, ["x"]) == ["a==1", "b", "c"]

    def test_names_what_is_not_there_and_what_is_of_another_version(self):
        version = importlib.metadata.version("numpy")

        missing = list(setup_env.find_missing(["numpy==0.1", "no-such-thing", "scipy"]))

        assert missing == [f"numpy==0.1 (it has {version})", "no-such-thing"]

    def test_a_name_counts_however_it_is_written(self):
        assert (
            list(setup_env.find_missing(["scikit_learn", "pyyaml", "PyYAML>=1"])) == []
        )

    def test_the_plain_s3prl_beside_the_other_spoils_it(self, monkeypatch, tmp_path):
        info = tmp_path / "s3prl-0.4.18.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Name: s3prl\nVersion: 0.4.18\n")
        monkeypatch.syspath_prepend(tmp_path)

        (missing,) = setup_env.find_missing(["espnet-s3prl"])

        assert "s3prl 0.4.18 beside it" in missing

    def test_status_and_output(self):
        command = [sys.executable, "-I", str(ROOT / "local/setup_env.py"), "missing"]
        done = subprocess.run(
            [*command, str(ROOT / "setup.py"), "mini,dev"],
            capture_output=True,
            text=True,
            timeout=60,
        )

        assert (done.returncode, done.stdout) == (0, "\n")


class TestUvSettings:
    def convert(self, tmp_path, pip_conf="", **environ):
        environ = {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path), **environ}
        file = tmp_path / ".config" / "pip" / "pip.conf"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(pip_conf)
        # The machine may have an /etc/pip.conf: the user's file wins over it.
        return setup_env.convert_to_uv(setup_env.read_pip_settings(environ), environ)

    CONF = """
[global]
index-url = https://user:p%40ss@mirror.example/simple
extra-index-url =
    file:///wheels/simple
    https://other.example/simple
trusted_host =
    mirror.example
    other.example
[install]
find-links = /wheels /more
"""

    def test_says_pips_settings_in_uvs_words(self, tmp_path):
        uv = self.convert(tmp_path, self.CONF)

        assert uv["UV_DEFAULT_INDEX"] == "https://user:p%40ss@mirror.example/simple"
        assert uv["UV_INSECURE_HOST"] == "mirror.example other.example"

    def test_leaves_out_the_places_that_uv_does_not_merge(self, tmp_path):
        uv = self.convert(tmp_path, self.CONF)

        assert set(uv) & {"UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"} == set()

    def test_variables_win_over_files(self, tmp_path):
        uv = self.convert(
            tmp_path,
            self.CONF,
            PIP_INDEX_URL="https://new.example",
            PIP_DEFAULT_TIMEOUT="99",
        )

        assert uv["UV_DEFAULT_INDEX"] == "https://new.example"
        assert uv["UV_HTTP_TIMEOUT"] == "99"

    def test_what_is_set_for_uv_stays(self, tmp_path):
        uv = self.convert(tmp_path, self.CONF, UV_INDEX_URL="https://uv.example")

        assert "UV_DEFAULT_INDEX" not in uv
        assert uv["UV_INSECURE_HOST"] == "mirror.example other.example"

    def test_an_index_in_uvs_own_file_stays(self, tmp_path):
        (tmp_path / ".config" / "uv").mkdir(parents=True)
        (tmp_path / ".config" / "uv" / "uv.toml").write_text('[[index]]\nurl = "x"\n')

        assert "UV_DEFAULT_INDEX" not in self.convert(tmp_path, self.CONF)

    def test_no_files_at_all(self, tmp_path):
        assert self.convert(tmp_path, self.CONF, PIP_CONFIG_FILE="/dev/null") == {}

    @pytest.mark.parametrize("value", ["1", "true"])
    def test_no_index_is_left_to_pip(self, tmp_path, value):
        assert self.convert(tmp_path, PIP_NO_INDEX=value) == {"SER_INSTALLER": "pip"}
