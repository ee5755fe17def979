//! Rows of streams.
use super::super::{Effect, Keys, Route, Row, Shape, keys};
use super::{FIRST, SECOND, cached, plain, read, row, write};

const STREAMS: Keys = Keys::Special(keys::streams);

pub(super) const ROWS: &[Row] = &[
    cached("XLEN", 2),
    // COUNT 0 answers a null array.
    cached("XRANGE", -4).shaped(Shape::NullArrays),
    cached("XREVRANGE", -4).shaped(Shape::NullArrays),
    read("XPENDING", -3, FIRST),
    row("XREAD", -4, STREAMS, Effect::Read, Route::BlockingIfAsked),
    row("XREADGROUP", -7, STREAMS, Effect::Write, Route::BlockingIfAsked),
    write("XACK", -4, FIRST),
    write("XACKDEL", -6, FIRST),
    write("XADD", -5, FIRST),
    write("XAUTOCLAIM", -6, FIRST),
    write("XCLAIM", -6, FIRST),
    write("XDEL", -3, FIRST),
    write("XDELEX", -5, FIRST),
    write("XSETID", -3, FIRST),
    write("XTRIM", -4, FIRST),
    // What a subcommand that is not listed would do is not known.
    row("XGROUP", -2, Keys::Unknown, Effect::Unknown, Route::Script).grouped(super::Group::Write),
    write("XGROUP|CREATE", -5, SECOND),
    write("XGROUP|CREATECONSUMER", 5, SECOND),
    write("XGROUP|DELCONSUMER", 5, SECOND),
    write("XGROUP|DESTROY", 4, SECOND),
    plain("XGROUP|HELP", 2),
    write("XGROUP|SETID", -5, SECOND),
    read("XINFO", -2, Keys::Unknown),
    read("XINFO|CONSUMERS", 4, SECOND),
    read("XINFO|GROUPS", 3, SECOND),
    plain("XINFO|HELP", 2),
    read("XINFO|STREAM", -3, SECOND),
];
