//! The fault campaign: the product's processes against a real cluster, under faults that a seed chooses.

mod proxy;
