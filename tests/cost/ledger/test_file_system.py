"""A ledger on a network's file system is warned of, by the app that opens it and by `doctor`."""

from __future__ import annotations

import pytest
from support.emit_spans import emit_calls

from crewmeter_cost.doctor import NOTE, OK
from crewmeter_cost.doctor.ledger import check_ledger
from crewmeter_cost.exporter import LedgerSpanExporter
from crewmeter_cost.ledger import file_system
from crewmeter_cost.ledger.file_system import network_file_system
from crewmeter_cost.ledger.read.run_cost import run_cost
from crewmeter_cost.ledger.store import Ledger

ROOT = "22 27 0:21 / / rw,relatime - ext4 /dev/root rw"


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """Makes a folder look like a mount of a type, to those who read the table of mounts."""

    def mount(kind: str, name: str = "share") -> object:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        point = str(folder).replace(" ", "\\040")
        table = tmp_path / "mountinfo"
        table.write_text(
            f"{ROOT}\n"
            f"25 27 0:30 / {point} rw shared:7 - {kind} server:/export rw,vers=4.2\n"
            f"26 27 0:31 / {point}-other rw - tmpfs tmpfs rw\n"
        )
        monkeypatch.setattr(file_system, "_MOUNTS", table)
        return folder

    return mount


WARNED = ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "fuse.sshfs", "fuse.gcsfuse"]
SILENT = ["ext4", "xfs", "btrfs", "overlay", "tmpfs", "zfs", "fuseblk", "fuse.fuse-overlayfs"]


def test_types_without_locks_are_known(mounted):
    """NFS, SMB and FUSE are named. Local disks, and what containers have for root, are not."""
    found = {kind: network_file_system(mounted(kind) / "a" / "l.db") for kind in WARNED + SILENT}
    assert found == {kind: kind for kind in WARNED} | dict.fromkeys(SILENT)


def test_the_deepest_mount_counts(mounted, tmp_path):
    """A path beside the share, or with a blank in its name, is not mistaken for another."""
    assert network_file_system(mounted("nfs4", "a share") / "ledger.db") == "nfs4"
    assert network_file_system(tmp_path / "a share-other" / "ledger.db") is None
    assert network_file_system(tmp_path / "a sharing" / "ledger.db") is None


def test_a_link_to_a_share_is_followed(mounted, tmp_path):
    """`~/.crewmeter` may be a symbolic link to a share."""
    (tmp_path / "home").symlink_to(mounted("cifs"))
    assert network_file_system(tmp_path / "home" / "ledger.db") == "cifs"


def test_an_app_says_it_once_and_goes_on(mounted, caplog):
    """The ledger is written all the same: one process alone is safe."""
    path = mounted("nfs4") / "ledger.db"
    for _ in range(2):
        exporter = LedgerSpanExporter(ledger=str(path))
        emit_calls(exporter, 2)
        exporter.shutdown()
    warnings = [record.message for record in caplog.records if "file system" in record.message]
    assert len(warnings) == 1
    assert "nfs4" in warnings[0]
    assert "PostgreSQL" in warnings[0]
    with Ledger.open(str(path), read_only=True) as ledger:
        assert run_cost(ledger, "00000000000000ab").calls == 4


def test_doctor_notes_it(mounted):
    """A ledger there, and one that would be made there."""
    path = mounted("fuse.sshfs") / "ledger.db"
    for _ in range(2):
        finding = check_ledger(str(path), {})
        assert finding.status == NOTE
        assert "fuse.sshfs" in finding.says
        Ledger.open(str(path)).close()
    mounted("ext4")
    assert check_ledger(str(path), {}).status == OK


def test_where_mounts_cannot_be_read_nothing_is_said(ledger_path, monkeypatch, tmp_path):
    """There is no such table on macOS and Windows."""
    monkeypatch.setattr(file_system, "_MOUNTS", tmp_path / "none")
    assert network_file_system(ledger_path) is None
