# SPDX-License-Identifier: Apache-2.0

output "inventory" {
  description = "The lab as an Ansible inventory."
  value       = module.segment.inventory
}

output "gateways" {
  description = "Gateways by name: UUID, interfaces with MAC address and addresses."
  value       = module.segment.gateways
}
