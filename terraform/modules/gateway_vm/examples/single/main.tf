# SPDX-License-Identifier: Apache-2.0

# One gateway on the hypervisor's own bridge. The hypervisor is LIBVIRT_DEFAULT_URI's.

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

variable "bridge" {
  description = "Bridge of the hypervisor."
  type        = string
  default     = "br-mgmt"
}

variable "domain_type" {
  description = "kvm, or qemu without hardware virtualisation."
  type        = string
  default     = "kvm"
}

module "gateway" {
  source = "../.."

  name        = "gw-single"
  segment     = "plant-c"
  image       = var.image
  domain_type = var.domain_type
  cpu         = var.domain_type == "kvm" ? "host-passthrough" : "maximum"
  memory_mib  = 1024

  interfaces = [{ name = "management", bridge = var.bridge, addresses = ["192.0.2.21/24"], gateway = "192.0.2.1" }]

  management = {
    networks        = ["203.0.113.0/24"]
    authorized_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMHg/j+6nL8jh6uJ7iZFy27adVcV4NYwnQwxOo//DKYP replace-with-your-own"]
  }
}

output "gateway" {
  description = "UUID and interfaces of the gateway."
  value       = { id = module.gateway.id, interfaces = module.gateway.interfaces }
}
