# SPDX-License-Identifier: Apache-2.0

# Two gateways, each in a management network and in the network of what they guard. The hypervisor is LIBVIRT_DEFAULT_URI's.

terraform {
  required_version = ">= 1.9"

  required_providers {
    libvirt = {
      source  = "dmacvicar/libvirt"
      version = "~> 0.8.3"
    }
  }
}

provider "libvirt" {}

variable "image" {
  description = "Path of the appliance's disk image."
  type        = string
}

variable "domain_type" {
  description = "kvm, or qemu without hardware virtualisation."
  type        = string
  default     = "kvm"
}

module "segment" {
  source = "../.."

  name        = "plant-c"
  image       = var.image
  domain_type = var.domain_type
  cpu         = var.domain_type == "kvm" ? "host-passthrough" : "maximum"

  networks = {
    management = { cidr = "10.88.21.0/24", host_address = true }
    targets    = { cidr = "10.88.22.0/24" }
  }

  gateways = {
    gw-c-1 = { memory_mib = 512, addresses = { management = "10.88.21.11/24", targets = "10.88.22.11/24" } }
    gw-c-2 = { memory_mib = 512, addresses = { management = "10.88.21.12/24", targets = "10.88.22.12/24" } }
  }

  management = {
    networks        = ["10.88.21.0/24"]
    authorized_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMHg/j+6nL8jh6uJ7iZFy27adVcV4NYwnQwxOo//DKYP replace-with-your-own"]
  }
}

output "inventory" {
  description = "The segment as an Ansible inventory."
  value       = module.segment.inventory
}

output "gateways" {
  description = "UUIDs and interfaces of the gateways."
  value       = module.segment.gateways
}
