//! The checker of histories: it lets a right one pass, and finds what is wrong with each of the others.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod anytime;
mod devices;
mod files;
mod forgotten;
mod sources;
mod story;
mod wrongs;
