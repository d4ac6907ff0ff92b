//! A disk that forgets what was not synced, sector by sector, when it loses power.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::failure::{Failure, Outcome};
use crate::storage::{Access, File, Folder};

const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
struct Node {
    current: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    nodes: Vec<Node>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, Default)]
pub struct Disk(Rc<RefCell<State>>);

impl Disk {
    /// `choose` says for each thing that was not synced whether it survives.
    pub fn lose_power(&self, mut choose: impl FnMut() -> bool) {
        let state = &mut *self.0.borrow_mut();
        for node in &mut state.nodes {
            let size = if choose() { node.current.len() } else { node.synced.len() };
            let mut survived = node.synced.clone();
            survived.resize(size, 0);
            for (at, sector) in survived.chunks_mut(SECTOR).enumerate() {
                let start = at * SECTOR;
                if choose() {
                    let new = node.current.get(start..).unwrap_or_default();
                    let common = sector.len().min(new.len());
                    sector[..common].copy_from_slice(&new[..common]);
                }
            }
            *node = Node { current: survived.clone(), synced: survived };
        }
        let mut names = state.synced_names.clone();
        for (name, node) in &state.names {
            if choose() {
                names.insert(name.clone(), *node);
            }
        }
        names.retain(|name, _| state.names.contains_key(name) || choose());
        state.synced_names = names.clone();
        state.names = names;
    }

    pub fn content(&self, name: &str) -> Vec<u8> {
        let state = self.0.borrow();
        state.nodes[state.names[name]].current.clone()
    }

    pub fn replace(&self, name: &str, content: Vec<u8>) {
        let state = &mut *self.0.borrow_mut();
        state.nodes[state.names[name]] = Node { synced: content.clone(), current: content };
    }
}

impl Folder for Disk {
    type File = Handle;

    fn list(&self) -> Outcome<Vec<String>> {
        Ok(self.0.borrow().names.keys().cloned().collect())
    }

    fn open(&self, name: &str, access: Access) -> Outcome<Option<Handle>> {
        let node = self.0.borrow().names.get(name).copied();
        Ok(node.map(|node| Handle { disk: self.clone(), node, access }))
    }

    fn create(&self, name: &str, content: &[u8]) -> Outcome<Option<Handle>> {
        let state = &mut *self.0.borrow_mut();
        if state.names.contains_key(name) {
            return Ok(None);
        }
        let node = state.nodes.len();
        state.nodes.push(Node { current: content.to_vec(), synced: content.to_vec() });
        state.names.insert(name.to_owned(), node);
        Ok(Some(Handle { disk: self.clone(), node, access: Access::ReadWrite }))
    }

    fn remove(&self, name: &str) -> Outcome<()> {
        self.0.borrow_mut().names.remove(name);
        Ok(())
    }

    fn sync(&self) -> Outcome<()> {
        let state = &mut *self.0.borrow_mut();
        state.synced_names = state.names.clone();
        Ok(())
    }
}

#[derive(Clone, Debug)]
pub struct Handle {
    disk: Disk,
    node: usize,
    access: Access,
}

impl Handle {
    fn change(&self, change: impl FnOnce(&mut Node)) -> Outcome<()> {
        if self.access == Access::Read {
            return Err(Failure::Stop("opened for reading".to_owned()));
        }
        change(&mut self.disk.0.borrow_mut().nodes[self.node]);
        Ok(())
    }
}

impl File for Handle {
    fn size(&self) -> Outcome<u64> {
        Ok(self.disk.0.borrow().nodes[self.node].current.len() as u64)
    }

    fn read(&self, at: u64, most: usize) -> Outcome<Vec<u8>> {
        let state = self.disk.0.borrow();
        let rest = state.nodes[self.node].current.get(at as usize..).unwrap_or_default();
        Ok(rest[..most.min(rest.len())].to_vec())
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Outcome<()> {
        self.change(|node| {
            let (start, end) = (at as usize, at as usize + bytes.len());
            if node.current.len() < end {
                node.current.resize(end, 0);
            }
            node.current[start..end].copy_from_slice(bytes);
        })
    }

    fn truncate(&self, size: u64) -> Outcome<()> {
        self.change(|node| node.current.truncate(size as usize))
    }

    fn sync(&self) -> Outcome<()> {
        self.change(|node| node.synced = node.current.clone())
    }
}
