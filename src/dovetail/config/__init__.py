"""From files to one frozen RunConfig, in four steps, and ``Config``, which does the same from Python.

1. **Read**: ``document`` reads TOML, ``locate`` finds the position of every key and value.
2. **Compose**: ``compose`` lays files, profiles and ``overrides`` over one another: a ``tree`` of values with origins.
3. **Check**: ``check`` converts the tree to the ``RunConfig`` of ``schema``: ``convert`` for types, ``parts`` for
   components, ``fields`` and ``annotations`` for what each key takes.
4. **Write**: ``freeze`` records and hashes a configuration, ``plain`` makes it plain again; ``formats``, ``defaults``
   and ``json_schema`` write files.

``api`` and ``keywords`` are the Python interface; ``diagnostics``, ``notation`` and ``aliases`` make the messages.
"""
