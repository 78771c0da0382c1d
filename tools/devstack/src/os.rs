//! The machine: processes, ports, where things are, and what processes print.

pub mod launch;
pub mod logs;
pub mod paths;
pub mod ports;
pub mod process;
pub mod proxy;
