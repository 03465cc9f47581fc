# SPDX-License-Identifier: Apache-2.0

module "segment" {
  source   = "../../modules/segment"
  for_each = var.segments

  name           = each.key
  networks       = each.value.networks
  gateways       = each.value.gateways
  image          = var.image
  pool           = var.pool
  management     = var.management
  name_servers   = var.name_servers
  time_servers   = var.time_servers
  segment_folder = "${path.module}/${var.inventory}/segments/${each.key}"
}
