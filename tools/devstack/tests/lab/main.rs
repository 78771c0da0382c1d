//! `./dev lab`, run as a person does: a verdict that holds under faults, one that finds what was planted, and an end that leaves nothing.
//!
//! A plain run does one seed. `./dev test --all` draws twenty; `LAB_SEED` begins at another, and what fails names its own.

mod planted;
mod run;
mod seeds;
