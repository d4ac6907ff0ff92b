//! What a component costs its host before any of its code runs, told from its sections.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use wasmparser::Payload;

/// The most that a function, global, table or memory takes of an instance, imported or not.
const INSTANCE_ITEM_BYTES: usize = 32;

// What compiling takes, as measured: a component of 13,000 functions and 6.6 MB of code
// takes 510 MiB, 900,000 empty functions 5.6 GiB, one function of 2.1 MB 890 MiB.
const FILE_COPIES: usize = 4;
const ITEM_BYTES: usize = 256;
const FUNCTION_BYTES: usize = 6 << 10;
const BYTES_PER_CODE_BYTE: usize = 40;
/// While the function is compiled; as many are at one time as there are processors.
const BYTES_PER_CODE_BYTE_UNDER_WAY: usize = 500;

#[derive(Clone, Debug)]
pub struct Cost {
    file: usize,
    /// Of the module under way: no module holds another one.
    instance_items: usize,
    instance_items_max: usize,
    items: usize,
    functions: usize,
    code: usize,
    at_one_time: usize,
    /// The sizes of the largest functions.
    largest: BinaryHeap<Reverse<usize>>,
}

impl Cost {
    pub(super) fn new(file: usize) -> Self {
        let at_one_time = std::thread::available_parallelism().map_or(1, usize::from);
        Self { file, instance_items: 0, instance_items_max: 0, items: 0, functions: 0, code: 0, at_one_time, largest: BinaryHeap::new() }
    }

    /// About what the host holds for an instance of the largest module.
    #[must_use]
    pub fn instance_bytes(&self) -> usize {
        self.instance_items_max.saturating_mul(INSTANCE_ITEM_BYTES)
    }

    /// About what the host holds while it compiles the component.
    #[must_use]
    pub fn compile_bytes(&self) -> usize {
        let under_way: usize = self.largest.iter().map(|Reverse(size)| size).sum();
        [
            (self.file, FILE_COPIES),
            (self.items, ITEM_BYTES),
            (self.functions, FUNCTION_BYTES),
            (self.code, BYTES_PER_CODE_BYTE),
            (under_way, BYTES_PER_CODE_BYTE_UNDER_WAY),
        ]
        .iter()
        .fold(0, |sum, (count, each)| sum.saturating_add(count.saturating_mul(*each)))
    }

    pub(super) fn add(&mut self, payload: &Payload<'_>) {
        let (count, is_of_instances) = match payload {
            Payload::Version { .. } => {
                self.instance_items = 0;
                (0, false)
            }
            Payload::ImportSection(section) => (section.count(), true),
            Payload::FunctionSection(section) => (section.count(), true),
            Payload::TableSection(section) => (section.count(), true),
            Payload::MemorySection(section) => (section.count(), true),
            Payload::TagSection(section) => (section.count(), true),
            Payload::GlobalSection(section) => (section.count(), true),
            Payload::TypeSection(section) => (section.count(), false),
            Payload::ExportSection(section) => (section.count(), false),
            Payload::ElementSection(section) => (section.count(), false),
            Payload::DataSection(section) => (section.count(), false),
            Payload::InstanceSection(section) => (section.count(), false),
            Payload::CoreTypeSection(section) => (section.count(), false),
            Payload::ComponentInstanceSection(section) => (section.count(), false),
            Payload::ComponentAliasSection(section) => (section.count(), false),
            Payload::ComponentTypeSection(section) => (section.count(), false),
            Payload::ComponentCanonicalSection(section) => (section.count(), false),
            Payload::ComponentImportSection(section) => (section.count(), false),
            Payload::ComponentExportSection(section) => (section.count(), false),
            Payload::CodeSectionEntry(body) => {
                self.function(body.range().len());
                (0, false)
            }
            _ => (0, false),
        };
        self.items = self.items.saturating_add(count as usize);
        if is_of_instances {
            self.instance_items = self.instance_items.saturating_add(count as usize);
            self.instance_items_max = self.instance_items_max.max(self.instance_items);
        }
    }

    fn function(&mut self, size: usize) {
        self.functions += 1;
        self.code += size;
        self.largest.push(Reverse(size));
        if self.largest.len() > self.at_one_time {
            self.largest.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::examine;

    fn cost(body: &str) -> super::Cost {
        examine(&wat::parse_str(format!("(component {body})")).unwrap()).unwrap().cost
    }

    #[test]
    fn instances_take_what_their_largest_module_has() {
        let small = "(core module (func) (global i32 (i32.const 0)))";
        let large = "(core module (import \"a\" \"b\" (func)) (memory 1) (table 1 funcref) (func) (func))";
        assert_eq!(cost("").instance_bytes(), 0);
        assert_eq!(cost(&[small, large, small].concat()).instance_bytes(), 5 * super::INSTANCE_ITEM_BYTES);
        assert_eq!(cost(&format!("(component {large}) {small}")).instance_bytes(), 5 * super::INSTANCE_ITEM_BYTES);
    }

    #[test]
    fn functions_and_code_cost() {
        let few = cost("(core module (func))").compile_bytes();
        let many = cost(&format!("(core module {})", "(func)".repeat(1001))).compile_bytes();
        assert!(many - few >= 1000 * super::FUNCTION_BYTES, "{few} {many}");
        let long = cost(&format!("(core module (func {}))", "(nop)".repeat(1000))).compile_bytes();
        assert!(long - few >= 1000 * (super::BYTES_PER_CODE_BYTE + super::BYTES_PER_CODE_BYTE_UNDER_WAY), "{few} {long}");
    }
}
