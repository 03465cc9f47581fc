# SPDX-License-Identifier: Apache-2.0

output "inventory" {
  description = "The site as an Ansible inventory: `tofu output -json inventory > hosts.json`."
  value = { all = { children = { gateways = {
    children = merge([for segment in module.segment : segment.inventory_groups]...)
  } } } }
}

output "gateways" {
  description = "Gateways by segment and name: UUID, and interfaces with MAC address and addresses."
  value       = { for name, segment in module.segment : name => segment.gateways }
}
