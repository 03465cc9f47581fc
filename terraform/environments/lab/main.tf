# SPDX-License-Identifier: Apache-2.0

# One segment on an isolated network of this machine: what the tests apply.

resource "libvirt_pool" "lab" {
  name = "lockgate-lab"
  type = "dir"

  target {
    path = "${var.folder}/pool"
  }
}

module "segment" {
  source = "../../modules/segment"

  name     = "lab"
  networks = { management = { cidr = "10.88.20.0/24", host_address = true } }

  gateways = { for name, number in var.gateways : name => {
    addresses   = { management = "10.88.20.${number}/24" }
    memory_mib  = var.memory_mib
    vcpus       = var.vcpus
    disk_gib    = var.disk_gib
    console_log = "${var.folder}/${name}.log"
    credentials = var.credentials
  } }

  image          = var.image
  pool           = libvirt_pool.lab.name
  domain_type    = var.domain_type
  cpu            = var.cpu
  management     = { networks = ["10.88.20.0/24"], authorized_keys = var.authorized_keys }
  segment_folder = var.segment_folder
  inventory_file = var.inventory_file
}
