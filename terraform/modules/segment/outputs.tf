# SPDX-License-Identifier: Apache-2.0

output "inventory" {
  description = "The segment as an Ansible inventory: `terraform output -json inventory > hosts.json` is one."
  value       = local.inventory
}

output "inventory_groups" {
  description = "The part of the inventory below `gateways`: environments with several segments merge theirs."
  value       = local.inventory.all.children.gateways.children
}

output "gateways" {
  description = "Gateways by name: UUID, and interfaces with MAC address and addresses."
  value       = { for name, gateway in module.gateway : name => { id = gateway.id, interfaces = gateway.interfaces } }
}

output "networks" {
  description = "Isolated networks that were made, by name: UUID and bridge on the hypervisor."
  value       = { for name, network in libvirt_network.isolated : name => { id = network.id, bridge = network.bridge } }
}
