# SPDX-License-Identifier: Apache-2.0

variable "libvirt_uri" {
  description = "Hypervisor, as libvirt knows it: qemu:///system here, qemu+ssh://ops@HOST/system elsewhere."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^qemu(\\+(ssh|tls))?://[A-Za-z0-9@.:_-]*/system(\\?[A-Za-z0-9=&/._+-]+)?$", var.libvirt_uri))
    error_message = "The hypervisor is qemu:///system, qemu+ssh://USER@HOST/system or qemu+tls://HOST/system; plain TCP is neither secret nor authenticated."
  }
}

variable "image" {
  description = "Path of the appliance's disk image, the qcow2 out of the verified bundle."
  type        = string
  nullable    = false
}

variable "pool" {
  description = "Storage pool of the hypervisor."
  type        = string
  default     = "default"
  nullable    = false
}

variable "management" {
  description = "Who may manage the gateways, and from where."
  type = object({
    networks        = list(string)
    authorized_keys = optional(list(string), [])
    user_ca         = optional(string, "")
  })
  nullable = false
}

variable "name_servers" {
  description = "Addresses of name servers."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "time_servers" {
  description = "Addresses of time servers."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "inventory" {
  description = "Folder of the Ansible inventory, from here: segments/NAME in it is a segment's first policy."
  type        = string
  default     = "../../../inventories/example"
  nullable    = false
}

variable "segments" {
  description = "Segments by name: their networks and their gateways, as modules/segment describes them."
  type = map(object({
    networks = map(object({
      cidr         = string
      bridge       = optional(string)
      host_address = optional(bool, false)
      gateway      = optional(string)
      routes       = optional(list(object({ to = string, via = string })), [])
    }))
    gateways = map(object({
      addresses  = map(string)
      memory_mib = optional(number, 4096)
      vcpus      = optional(number, 2)
      disk_gib   = optional(number, 40)
    }))
  }))
  nullable = false
}
