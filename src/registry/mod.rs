//! The schema registry: schemas by id, ids by schema, cached.
