# SPDX-License-Identifier: Apache-2.0

output "name" {
  description = "Name of the gateway."
  value       = var.name
}

output "id" {
  description = "UUID of the domain. The same after it was made anew."
  value       = libvirt_domain.gateway.id
}

output "interfaces" {
  description = "Interfaces by name: MAC address and addresses without their prefix."
  value = { for i in local.interfaces : i.name => {
    mac       = i.mac
    addresses = [for a in i.addresses : split("/", a)[0]]
  } }
}

output "firstboot" {
  description = "What first boot is told, as the credential lockgate.firstboot. Public."
  value       = local.firstboot
}
