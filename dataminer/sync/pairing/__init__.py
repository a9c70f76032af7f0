"""Which store belongs to which database.

Both hold the same token: the database in a table of one row, the store in
:data:`dataminer.sync.pairing.records.STORE_FILE`. The token changes when either of them turns up
in another place. So a store or a database that was left behind is recognised as a copy, even on a
machine that cannot be reached from here.
"""
