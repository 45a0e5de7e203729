"""Discovery: installed metadata, read from real folders on ``sys.path``."""

from __future__ import annotations

import sys
import zipfile
from importlib import metadata

import pytest

from dovetail.kernel.discovery import EntryPoint, installed_entry_points, normalize


def install(folder, name, version, text):
    """Write the metadata of an installed distribution."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(text)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Return an empty folder at the head of ``sys.path``."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def ours(entries):
    """Return the entry points that a test installed."""
    return [
        entry
        for entry in entries
        if entry.distribution != "dovetail" and not entry.distribution.startswith("dovetail-")
    ]


def test_finds_what_importlib_metadata_finds(site):
    """The quick reader and the standard library agree on this very environment."""
    install(
        site,
        "Your_Co.Losses",
        "1.2.3",
        "[console_scripts]\nx = y:z\n[dovetail]\n# note\nyourco = yourco.plugin [extra]\n\n[other]\na = b\n",
    )
    expected = {
        (normalize(entry.dist.name), entry.name, entry.module) for entry in metadata.entry_points(group="dovetail")
    }

    assert expected == {(entry.distribution, entry.name, entry.value) for entry in installed_entry_points()}
    assert EntryPoint("your-co-losses", "yourco", "yourco.plugin", "1.2.3") in installed_entry_points()


def test_order_depends_on_names_alone(site):
    """Entry points come sorted by distribution and name, whatever the order on the disk."""
    for name in ["zeta", "alpha", "mid"]:
        install(site, name, "1", f"[dovetail]\nb = {name}.b\na = {name}.a\n")

    assert [entry.value for entry in ours(installed_entry_points())] == [
        "alpha.a",
        "alpha.b",
        "mid.a",
        "mid.b",
        "zeta.a",
        "zeta.b",
    ]


def test_first_on_the_path_shadows(tmp_path, monkeypatch):
    """Of two installations of one distribution the first on ``sys.path`` counts, as for imports."""
    for folder in ["second", "first"]:
        install(tmp_path / folder, "twice", "1", f"[dovetail]\np = {folder}.plugin\n")
        monkeypatch.syspath_prepend(tmp_path / folder)

    assert [entry.value for entry in ours(installed_entry_points())] == ["first.plugin"]


def test_source_tree_with_egg_info(site):
    """An ``.egg-info`` folder without a version in its name gives the version that it records."""
    folder = site / "yourco.egg-info"
    folder.mkdir()
    (folder / "entry_points.txt").write_text("[dovetail]\np = yourco.plugin\n")
    (folder / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: yourco\nVersion: 4.5\n")

    assert [EntryPoint("yourco", "p", "yourco.plugin", "4.5")] == ours(installed_entry_points())
    (folder / "PKG-INFO").unlink()
    assert [entry.version for entry in ours(installed_entry_points())] == [""]


def test_unreadable_metadata_is_passed_over(site, monkeypatch):
    """Bytes that are no text, folders without entry points and paths that are not there spoil nothing."""
    (site / "bad-1.dist-info").mkdir()
    (site / "bad-1.dist-info" / "entry_points.txt").write_bytes(b"[dovetail]\n\xff\xfe = x\n")
    (site / "empty-1.dist-info").mkdir()
    monkeypatch.syspath_prepend("/no/such/folder")

    assert ours(installed_entry_points()) == []


def test_zip_application_falls_back_to_importlib_metadata(tmp_path, monkeypatch):
    """Where Dovetail itself lies in no plain folder, the standard library is asked."""
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ["dovetail", "yourco"]:
            file.writestr(f"{name}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
            file.writestr(f"{name}-1.dist-info/entry_points.txt", f"[dovetail]\np = {name}.plugin\n")
    monkeypatch.setattr(sys, "path", [str(archive)])

    assert [entry.value for entry in installed_entry_points()] == ["dovetail.plugin", "yourco.plugin"]
