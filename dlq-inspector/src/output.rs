//! How anything reaches the terminal: tables fitted to it, JSON lines, colour when it is one.

pub mod body;
mod complain;
mod ink;
pub mod json;
mod out;
mod table;
mod text;

pub use self::{
    complain::{complain, warn_unreadable},
    ink::Ink,
    out::{Format, Out},
    table::{Cell, Column, Table},
    text::{bytes, clean, hex},
};
