//! What `bindgen!` makes of `wit/`: one set of types for all roles.

#![allow(unsafe_code, reason = "generated: a function's type is checked once, when it is loaded, and not at each call")]
#![allow(missing_debug_implementations, dead_code, clippy::all, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../wit",
    inline: "
        package pgshovel:host;

        world host {
            import pgshovel:plugin/log@0.1.0;
            import pgshovel:plugin/kafka@0.1.0;
            import pgshovel:plugin/postgres@0.1.0;
            import pgshovel:plugin/origin@0.1.0;
            export pgshovel:plugin/writer@0.1.0;
            export pgshovel:plugin/reader@0.1.0;
            export pgshovel:plugin/loader@0.1.0;
            export pgshovel:plugin/target@0.1.0;
            export pgshovel:plugin/transform@0.1.0;
        }
    ",
    imports: {
        "pgshovel:plugin/log": trappable,
        default: async | trappable,
    },
    exports: { default: async },
    with: {
        "pgshovel:plugin/kafka.consumer": crate::capabilities::kafka::Consumer,
        "pgshovel:plugin/kafka.producer": crate::capabilities::kafka::Producer,
        "pgshovel:plugin/origin.cursor": crate::capabilities::origin::Cursor,
        "pgshovel:plugin/postgres.connection": crate::capabilities::postgres::Connection,
    },
});
