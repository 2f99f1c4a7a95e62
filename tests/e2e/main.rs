//! End to end: the real binary, real processes, a load client whose ledger must say 0 lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "tests")]

mod any_database;
mod backups;
mod bad_candidates;
mod bad_input;
mod bake;
mod crash;
mod data;
mod databases;
mod datagrams;
mod fenced;
mod five_minutes;
mod handoffs;
mod hooks;
mod intercept;
mod isolation;
mod ledger_app;
mod main_path;
mod migrations;
mod modes;
mod notify;
mod order;
mod passers;
mod postgres;
mod proxies;
mod real;
mod restores;
mod set_crash;
mod sets;
mod strategies;
mod trio;
mod unknown_words;
mod user;
mod verbs;
mod way_back;
mod world;
