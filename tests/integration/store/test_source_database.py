"""Reading the customer's database: what happens around the end of a query."""

import sqlite3
from contextlib import closing
from pathlib import Path

from precall.store.source_engine import EngineRows


async def test_a_query_whose_connection_is_closed_already_can_be_interrupted(tmp_path: Path) -> None:
    """A reading is given up by a task that cannot know whether the other one has just closed the connection."""
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as theirs:
        theirs.execute("CREATE TABLE b (subs_id)")
        theirs.commit()
    query = await EngineRows(f"sqlite:///{tmp_path}/theirs.db").connect()
    assert list(await query.open("SELECT subs_id FROM b")) == ["subs_id"]
    assert await query.interrupt()
    await query.close(whole=True)
    assert await query.interrupt()
