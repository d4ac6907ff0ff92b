//! What `bindgen!` makes of the interfaces of the roles. The types are those of the capabilities.

#![allow(unsafe_code, reason = "generated: a function's type is checked once, when it is loaded, and not at each call")]
#![allow(missing_debug_implementations, dead_code, clippy::all, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../wit",
    inline: "
        package pgshovel:host;

        world host {
            export pgshovel:plugin/writer@0.2.0;
            export pgshovel:plugin/stream-reader@0.2.0;
            export pgshovel:plugin/loader@0.2.0;
            export pgshovel:plugin/target@0.2.0;
            export pgshovel:plugin/transform@0.2.0;
        }
    ",
    exports: { default: async },
    with: {
        "pgshovel:plugin/types": crate::capabilities::types,
    },
});
