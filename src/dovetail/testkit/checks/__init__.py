"""The checks, by kind. The kit imports a module when it checks a component of that kind."""
