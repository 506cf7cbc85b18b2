//! One transaction: refreshes and input offsets with the checkpoint in their metadata.
