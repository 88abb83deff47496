"""Where jobs run: one file an executor, found by its name and imported only when it is used."""
