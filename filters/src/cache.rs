//! The pure decisions of an HTTP cache: what may be stored, for how long, and what a stored response may answer.

// Until the filter uses them.
#![allow(dead_code, unused_imports)]

mod conditional;
mod control;
mod freshness;
mod range;
mod reuse;
mod statuses;
mod storable;
mod syntax;
mod vary;
