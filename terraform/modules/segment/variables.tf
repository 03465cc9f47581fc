# SPDX-License-Identifier: Apache-2.0

variable "name" {
  description = "Name of the segment. Its group in the inventory is segment_NAME, with _ for hyphens."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", var.name))
    error_message = "A segment's name has small letters, digits and hyphens, at most 63, begins with a letter and does not end in a hyphen (plant-a)."
  }
}

variable "networks" {
  description = "Networks that the gateways are in, by name. With `bridge` it is an existing bridge of the hypervisor (a VLAN of the site); without, an isolated network is made, in which the hypervisor has the first address only with `host_address`. `gateway` is the router there (one network at most), `routes` lead elsewhere."
  type = map(object({
    cidr         = string
    bridge       = optional(string)
    host_address = optional(bool, false)
    gateway      = optional(string)
    routes       = optional(list(object({ to = string, via = string })), [])
  }))
  nullable = false

  validation {
    condition     = length(var.networks) >= 1 && length(var.networks) <= 8 && alltrue([for name in keys(var.networks) : can(regex("^[a-z]([a-z0-9-]{0,29}[a-z0-9])?$", name))])
    error_message = "Between one and eight networks; a network's name has small letters, digits and hyphens, at most 31, and begins with a letter."
  }

  validation {
    condition     = alltrue([for n in var.networks : can(regex("^[0-9A-Fa-f:.]+/[0-9]+$", n.cidr)) && try(cidrhost(n.cidr, 0) == lower(split("/", n.cidr)[0]), false)])
    error_message = "A network's cidr is its first address with its prefix: 192.0.2.0/24, not an address in it."
  }

  validation {
    condition     = alltrue([for n in var.networks : n.bridge == null || can(regex("^[A-Za-z][A-Za-z0-9_.-]{0,14}$", n.bridge))])
    error_message = "A bridge is the name of a network device: letters, digits and _ . -, at most 15."
  }

  validation {
    condition     = alltrue([for n in var.networks : !(n.bridge != null && n.host_address)])
    error_message = "The hypervisor's address on an existing bridge is the site's matter: host_address is for isolated networks."
  }

  validation {
    condition     = alltrue([for n in var.networks : n.gateway == null || try(cidrhost("${n.gateway}/${split("/", n.cidr)[1]}", 0) == cidrhost(n.cidr, 0), false)])
    error_message = "A network's gateway is an address in it, without a prefix: 192.0.2.1."
  }

  validation {
    condition     = length([for n in var.networks : n if n.gateway != null]) <= 1
    error_message = "At most one network has a gateway; other networks are reached by routes."
  }
}

variable "management_network" {
  description = "Name of the network in which Ansible reaches the gateways: their addresses there are ansible_host in the inventory."
  type        = string
  default     = "management"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,29}[a-z0-9])?$", var.management_network))
    error_message = "The management network is named as in networks: small letters, digits and hyphens."
  }
}

variable "gateways" {
  description = "One or two gateways by name, each with its address (ADDRESS/PREFIX) in every network. Two are independent of each other: callers go to either."
  type = map(object({
    addresses   = map(string)
    memory_mib  = optional(number, 4096)
    vcpus       = optional(number, 2)
    disk_gib    = optional(number, 40)
    console_log = optional(string, "")
    credentials = optional(map(string), {})
  }))
  nullable = false

  validation {
    condition     = length(var.gateways) >= 1 && length(var.gateways) <= 2
    error_message = "A segment has one or two gateways."
  }

  validation {
    condition     = alltrue([for name in keys(var.gateways) : can(regex("^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", name))])
    error_message = "A gateway's name is a host name: small letters, digits and hyphens, at most 63, beginning with a letter and not ending in a hyphen (gw-a-1)."
  }

  validation {
    condition     = alltrue(flatten([for g in var.gateways : [for a in values(g.addresses) : can(regex("^[0-9A-Fa-f:.]+/[0-9]+$", a)) && can(cidrhost(a, 0))]]))
    error_message = "A gateway's addresses have their prefix: management = \"192.0.2.11/24\"."
  }

  validation {
    condition     = length(distinct(flatten([for g in var.gateways : values(g.addresses)]))) == length(flatten([for g in var.gateways : values(g.addresses)]))
    error_message = "Two gateways cannot have the same address."
  }
}

variable "image" {
  description = "Path of the appliance's disk image on the machine that applies this."
  type        = string
  nullable    = false
}

variable "pool" {
  description = "Storage pool of the hypervisor."
  type        = string
  default     = "default"
  nullable    = false
}

variable "domain_type" {
  description = "kvm, or qemu where the hypervisor has no hardware virtualisation."
  type        = string
  default     = "kvm"
  nullable    = false
}

variable "cpu" {
  description = "host-passthrough, host-model, maximum, or the name of a model that libvirt knows."
  type        = string
  default     = "host-passthrough"
  nullable    = false
}

variable "firmware" {
  description = "UEFI of the hypervisor: its code and the template of its variables."
  type = object({
    code      = optional(string)
    variables = optional(string)
  })
  default  = {}
  nullable = false
}

variable "management" {
  description = "Who may manage the gateways, and from where, until Ansible has come: networks, public SSH keys, and the public key of an SSH user CA."
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

variable "segment_folder" {
  description = "Folder of the segment in the inventory (policy/, trust/ and perhaps gateway.yaml), given to the gateways as their first policy; null where Ansible brings it."
  type        = string
  default     = null
}

variable "inventory_file" {
  description = "File to write the inventory to, on the machine that applies this; empty for none (`terraform output -json inventory` has it)."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.inventory_file == "" || can(regex("^[A-Za-z0-9/._+-]+$", var.inventory_file))
    error_message = "The inventory's file is a path of letters, digits and / . _ + -."
  }
}
