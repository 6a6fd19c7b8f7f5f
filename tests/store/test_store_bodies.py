"""Bodies: whole or absent, proven when opened, readable while open."""

import os
import shutil
import threading

import pytest
import xxhash
from store_helpers import MIB, alter, body_file, keep, look, noise, read, warnings

from kheopsfs.errors import CacheUnusableError
from kheopsfs.store import Store
from kheopsfs.store.files import Files


def test_what_was_committed_is_read_back(store, folder):
    data = noise(300_001)
    incoming = store.bodies.incoming()
    for start in range(0, len(data), 65_536):
        incoming.write(memoryview(data)[start : start + 65_536])
    with incoming.commit("k") as committed, store.bodies.open("k") as opened:
        for body in (committed, opened):
            assert body.size == len(data)
            assert body.checksum == xxhash.xxh3_128_hexdigest(data)
            assert body.pread(len(data), 0) == data
            assert body.pread(10, 100_000) == data[100_000:100_010]
            assert body.pread(10, len(data) - 3) == data[-3:]
            assert body.pread(10, len(data) + 5) == b""
            assert os.pread(body.fileno(), 4, 1) == data[1:5]
    assert read(store, "k") == data
    assert not look(folder).arriving


def test_an_empty_body_is_a_body(store):
    store.bodies.incoming().commit("empty").close()
    assert read(store, "empty") == b""


def test_an_unknown_key_is_not_there(store):
    assert store.bodies.open("k") is None
    assert not store.bodies.contains("k")
    store.bodies.discard("k")


def test_nothing_is_seen_under_the_key_before_the_commit(store):
    incoming = store.bodies.incoming()
    incoming.write(b"half")
    assert not store.bodies.contains("k")
    assert store.bodies.open("k") is None
    incoming.discard()


def test_what_has_arrived_is_readable_while_the_rest_is_coming(store):
    with store.bodies.incoming() as incoming:
        assert incoming.so_far().pread(10, 0) == b""
        incoming.write(b"0123456789")
        assert incoming.size == 10
        assert incoming.so_far().pread(4, 3) == b"3456"
        assert incoming.so_far().pread(4, 8) == b"89"
        assert incoming.so_far().pread(4, 12) == b""
        assert os.pread(incoming.fileno(), 3, 0) == b"012"


def test_a_discarded_body_leaves_nothing(store, folder):
    incoming = store.bodies.incoming()
    incoming.write(b"x" * 1000)
    assert len(look(folder).arriving) == 1
    incoming.discard()
    incoming.discard()
    assert look(folder).arriving == look(folder).files == set()
    with pytest.raises(ValueError, match="discarded"):
        incoming.commit("k")
    with pytest.raises(ValueError, match="discarded"):
        incoming.so_far()


def test_leaving_the_block_discards_only_what_was_not_committed(store, folder):
    with store.bodies.incoming() as dropped:
        dropped.write(b"dropped")
    with store.bodies.incoming() as kept:
        kept.write(b"kept")
        kept.commit("k").close()
    assert read(store, "k") == b"kept"
    assert not look(folder).arriving
    assert len(look(folder).files) == 1


def test_a_second_commit_replaces_the_first_and_its_file(store, folder):
    keep(store, "k", b"first")
    before = store.bodies.open("k")
    keep(store, "k", b"second")
    assert read(store, "k") == b"second"
    assert before.pread(10, 0) == b"first"
    before.close()
    assert look(folder).files == set(look(folder).rows.values())
    assert len(look(folder).files) == 1


def test_a_discarded_key_is_gone_but_open_bodies_are_readable(store, folder):
    keep(store, "k", b"data")
    body = store.bodies.open("k")
    store.bodies.discard("k")
    assert not store.bodies.contains("k")
    assert not look(folder).files
    assert body.pread(4, 0) == b"data"
    body.close()
    body.close()
    with pytest.raises(ValueError, match="closed"):
        body.pread(1, 0)
    with pytest.raises(ValueError, match="closed"):
        body.fileno()


def test_bodies_outlive_the_store_that_kept_them(folder):
    with Store(folder, MIB) as first:
        keep(first, "k", b"data")
        body = first.bodies.open("k")
    assert body.pread(4, 0) == b"data"
    body.close()
    with Store(folder, MIB) as second:
        assert read(second, "k") == b"data"


def test_a_body_is_not_closed_under_a_read(store):
    """The descriptor's number is not reused while a read is under way: each read is right, or says it is closed."""
    data = noise(MIB)
    keep(store, "k", data)
    keep(store, "other", noise(MIB, seed=1))
    wrong = []

    def read_until_closed(body):
        while True:
            try:
                if body.pread(4096, 4096) != data[4096:8192]:
                    wrong.append(body)
            except ValueError:
                return

    for _round in range(50):
        body = store.bodies.open("k")
        threads = [threading.Thread(target=read_until_closed, args=(body,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        body.close()
        store.bodies.open("other").close()
        for thread in threads:
            thread.join()
    assert not wrong


def damage_truncate(path):
    os.truncate(path, 500)


def damage_lengthen(path):
    with path.open("ab") as file:
        file.write(b"more")


def damage_one_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage_link(path):
    target = path.parent.parent.parent.parent / "outside"
    target.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(target)


def damage_pipe(path):
    path.unlink()
    os.mkfifo(path)


def damage_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [damage_truncate, damage_lengthen, damage_one_bit, damage_link, damage_pipe, damage_folder],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_body_is_dropped_with_one_line(folder, caplog, damage):
    with Store(folder, MIB) as first:
        keep(first, "instance/1.2/3", noise(1000))
        keep(first, "instance/1.2/4", b"sound")
    damage(body_file(folder, "instance/1.2/3"))
    with Store(folder, MIB) as second:
        assert second.bodies.open("instance/1.2/3") is None
        assert [line.split(":")[0] for line in warnings(caplog)] == ["instance/1.2/3"]
        assert not second.bodies.contains("instance/1.2/3")
        assert read(second, "instance/1.2/4") == b"sound"
        keep(second, "instance/1.2/3", b"again")
        assert read(second, "instance/1.2/3") == b"again"
    outside = folder.parent / "outside"
    assert not outside.exists() or outside.read_bytes() == noise(1000)


def test_a_body_cut_short_after_it_was_proven_is_dropped(store, folder, caplog):
    keep(store, "k", noise(1000))
    damage_truncate(body_file(folder, "k"))
    assert store.bodies.open("k") is None
    assert len(warnings(caplog)) == 1


def test_a_body_cut_short_while_it_is_open_is_an_error_not_a_short_answer(store, folder):
    keep(store, "k", noise(1000))
    with store.bodies.open("k") as body:
        damage_truncate(body_file(folder, "k"))
        assert body.pread(400, 0) == noise(1000)[:400]
        with pytest.raises(CacheUnusableError):
            body.pread(400, 400)


def test_a_file_of_another_user_is_dropped(store, folder, caplog):
    if os.geteuid() != 0:
        pytest.skip("giving a file to another user is not permitted here")
    keep(store, "k", b"data")
    os.chown(body_file(folder, "k"), 65_534, 65_534)
    assert store.bodies.open("k") is None
    assert "not a file of this user" in warnings(caplog)[0]


def test_a_row_without_its_file_is_a_miss(store, folder, caplog):
    keep(store, "k", b"data")
    body_file(folder, "k").unlink()
    assert store.bodies.open("k") is None
    assert not store.bodies.contains("k")
    assert not warnings(caplog)
    keep(store, "k", b"again")
    assert read(store, "k") == b"again"


def test_the_cache_folder_may_be_emptied_while_it_is_in_use(store, folder):
    """Somebody runs `rm -rf` on it: what is cached is lost, and the store goes on."""
    keep(store, "k", b"data")
    arriving = store.bodies.incoming()
    arriving.write(b"arriving")
    subfolders = [path for path in folder.iterdir() if path.is_dir()]
    for path in subfolders:
        shutil.rmtree(path)
    with arriving.commit("arriving") as body:
        assert body.pread(8, 0) == b"arriving"
    assert store.bodies.open("k") is None
    keep(store, "k", b"again")
    assert read(store, "k") == b"again"
    threads_see = []
    thread = threading.Thread(target=lambda: threads_see.append(read(store, "k")))
    thread.start()
    thread.join()
    assert threads_see == [b"again"]
    store.ledger.record("g", "n", 5)
    assert store.ledger.size("g", "n") == 5
    store.listings.put("l", b"listing")
    assert store.listings.get("l").payload == b"listing"


def test_a_store_that_is_closed_begins_nothing_new(folder):
    store = Store(folder, MIB)
    store.close()
    store.close()
    with pytest.raises(CacheUnusableError, match="closed"):
        store.bodies.incoming()


def test_another_session_clears_what_a_dead_one_left_and_spares_a_living_one(store, folder):
    keep(store, "first", b"first")
    living = store.bodies.incoming()
    living.write(b"living")
    boot = next((folder / "tmp").iterdir()).name.split("-")[0]
    dead = folder / "tmp" / f"{boot}-0123456789abcdef"
    dead.mkdir(0o700)
    for name in ("a" * 32, "b" * 32):
        (dead / name).write_bytes(b"dead")
    os.link(dead / ("b" * 32), folder / "bodies" / "files" / ("b" * 32))
    with Store(folder, MIB):
        assert not dead.exists()
        assert look(folder).files == {look(folder).rows["first"]}
        assert not (folder / "bodies" / "orphans-possible").exists()
    living.commit("k").close()
    assert read(store, "k") == b"living"


def test_a_file_whose_row_is_about_to_be_written_is_no_orphan(tmp_path):
    files = Files(tmp_path / "bodies", tmp_path / "tmp")
    name, descriptor = files.create()
    os.close(descriptor)
    files.finish(name)
    assert files.orphans(set()) == []
    files.forget(name)
    assert files.orphans({name}) == []
    assert files.orphans(set()) == [name]
    files.close()


def test_files_whose_rows_a_power_cut_lost_are_swept_at_the_next_commit(store, folder):
    """A session of another boot means that the machine went down under it; a row that was lost has left its file."""
    keep(store, "kept", b"kept")
    keep(store, "lost", b"lost")
    alter(folder, "DELETE FROM Cache WHERE key = 'lost'")
    arriving = store.bodies.incoming()
    (folder / "tmp" / f"{'0' * 31}1-0123456789abcdef").mkdir(0o700)
    with Store(folder, 100 * MIB) as second:
        assert len(look(folder).files) == 2
        keep(second, "new", b"new")
        assert look(folder).files == set(look(folder).rows.values())
        assert set(look(folder).rows) == {"kept", "new"}
        assert not (folder / "bodies" / "orphans-possible").exists()
    arriving.write(b"arriving")
    arriving.commit("arrived").close()
    assert read(store, "arrived") == b"arriving"
