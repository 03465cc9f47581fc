# SPDX-License-Identifier: Apache-2.0

locals {
  group    = "segment_${replace(var.name, "-", "_")}"
  isolated = { for name, network in var.networks : name => network if network.bridge == null }

  interfaces = { for gateway, g in var.gateways : gateway => [
    for name, network in var.networks : {
      name       = name
      network_id = network.bridge == null ? libvirt_network.isolated[name].id : null
      bridge     = network.bridge
      addresses  = [lookup(g.addresses, name, "")]
      gateway    = network.gateway
      routes     = network.routes
    } if contains(keys(g.addresses), name)
  ] }

  # An address that is not in its network, or in none: told by name, before anything is made.
  misplaced = flatten([for gateway, g in var.gateways : [
    for network, address in g.addresses : "${gateway}: ${network} = ${address}"
    if !try(split("/", address)[1] == split("/", var.networks[network].cidr)[1] && cidrhost(address, 0) == cidrhost(var.networks[network].cidr, 0), false)
  ]])
  unreachable = [for gateway, g in var.gateways : gateway if !contains(keys(g.addresses), var.management_network)]

  inventory = {
    all = { children = { gateways = { children = { (local.group) = {
      hosts = { for gateway, g in var.gateways : gateway => {
        ansible_host = split("/", lookup(g.addresses, var.management_network, "/"))[0]
      } }
      vars = { gateway_segment = var.name }
    } } } } }
  }
}

resource "terraform_data" "placement" {
  input = { for gateway, g in var.gateways : gateway => g.addresses }

  lifecycle {
    precondition {
      condition     = length(local.misplaced) == 0
      error_message = "Each address of a gateway is in the network it is named after, with that network's prefix. Not so: ${join(", ", local.misplaced)}."
    }

    precondition {
      condition     = length(local.unreachable) == 0
      error_message = "Each gateway needs an address in the management network ${var.management_network}. Without: ${join(", ", local.unreachable)}."
    }
  }
}

resource "libvirt_network" "isolated" {
  for_each = local.isolated

  name      = "${var.name}-${each.key}"
  mode      = "none"
  addresses = each.value.host_address ? [each.value.cidr] : []
  autostart = true

  # Neither addresses nor names are given out here: gateways have static ones, and nothing of the hypervisor listens.
  dhcp {
    enabled = false
  }

  xml {
    xslt = file("${path.module}/templates/network.xslt")
  }

  depends_on = [terraform_data.placement]
}

module "gateway" {
  source   = "../gateway_vm"
  for_each = var.gateways

  name           = each.key
  segment        = var.name
  image          = var.image
  pool           = var.pool
  disk_gib       = each.value.disk_gib
  memory_mib     = each.value.memory_mib
  vcpus          = each.value.vcpus
  domain_type    = var.domain_type
  cpu            = var.cpu
  firmware       = { for key, path in var.firmware : key => path if path != null }
  console_log    = each.value.console_log
  interfaces     = local.interfaces[each.key]
  name_servers   = var.name_servers
  time_servers   = var.time_servers
  management     = var.management
  segment_folder = var.segment_folder
  credentials    = each.value.credentials

  depends_on = [terraform_data.placement]
}

resource "terraform_data" "inventory_file" {
  count = var.inventory_file == "" ? 0 : 1

  triggers_replace = [var.inventory_file, local.inventory]

  # Names and content go by the environment: nothing of them is read by a shell.
  provisioner "local-exec" {
    command = "printf '%s\\n' \"$INVENTORY\" > \"$INVENTORY_FILE\""
    environment = {
      INVENTORY      = "# Written by Terraform.\n---\n${yamlencode(local.inventory)}"
      INVENTORY_FILE = var.inventory_file
    }
  }

  depends_on = [module.gateway]
}
