# SPDX-License-Identifier: Apache-2.0

variable "libvirt_uri" {
  description = "libvirtd of the lab; one with a socket of its own as qemu:///system?socket=/path/libvirt-sock."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^qemu:///system(\\?socket=/[A-Za-z0-9/._+-]+)?$", var.libvirt_uri))
    error_message = "The lab is on this machine: qemu:///system, with ?socket=/path where it is not the usual one."
  }
}

variable "folder" {
  description = "Absolute path of a folder for the lab's disks and console logs."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^/[A-Za-z0-9/._+-]+$", var.folder))
    error_message = "The folder is an absolute path of letters, digits and / . _ + -."
  }
}

variable "image" {
  description = "Path of the appliance's disk image, qcow2."
  type        = string
  nullable    = false
}

variable "disk_gib" {
  description = "Size of each gateway's disk in GiB."
  type        = number
  default     = 8
  nullable    = false
}

variable "domain_type" {
  description = "qemu, for machines without hardware virtualisation; kvm is faster."
  type        = string
  default     = "qemu"
  nullable    = false
}

variable "cpu" {
  description = "Processor: a plain one boots fastest where it is emulated."
  type        = string
  default     = "Nehalem"
  nullable    = false
}

variable "vcpus" {
  description = "Virtual processors: one boots fastest where it is emulated."
  type        = number
  default     = 1
  nullable    = false
}

variable "memory_mib" {
  description = "Memory of each gateway in MiB."
  type        = number
  default     = 2048
  nullable    = false
}

variable "gateways" {
  description = "Gateways of the lab's segment by name, with the last part of their address in 10.88.20.0/24."
  type        = map(number)
  default     = { gw-lab-1 = 11 }
  nullable    = false

  validation {
    condition     = alltrue([for number in values(var.gateways) : number >= 2 && number <= 254 && floor(number) == number])
    error_message = "The last part of an address is between 2 and 254."
  }
}

variable "authorized_keys" {
  description = "Public keys of who may log in until Ansible has come."
  type        = list(string)
  nullable    = false
}

variable "segment_folder" {
  description = "Folder with the first policy (policy/ and trust/); null for none."
  type        = string
  default     = null
}

variable "credentials" {
  description = "More public credentials for systemd in the gateways."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "inventory_file" {
  description = "File to write the inventory to; empty for none."
  type        = string
  default     = ""
  nullable    = false
}
