"""Storage: the database with its migrations, the files of snapshots and models, and ids."""
