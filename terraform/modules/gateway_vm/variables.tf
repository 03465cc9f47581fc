# SPDX-License-Identifier: Apache-2.0

# --- who it is ----------------------------------------------------------------------------------------------------------

variable "name" {
  description = "Name of the gateway: of the domain in libvirt, of the host in the inventory, and of the machine itself."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", var.name))
    error_message = "A gateway's name is a host name: small letters, digits and hyphens, at most 63, beginning with a letter and not ending in a hyphen (gw-a-1)."
  }
}

variable "segment" {
  description = "Name of the segment that it guards."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", var.segment))
    error_message = "A segment's name has small letters, digits and hyphens, at most 63, begins with a letter and does not end in a hyphen (plant-a)."
  }
}

# --- what it runs on ----------------------------------------------------------------------------------------------------

variable "image" {
  description = "Path of the appliance's disk image (qcow2; raw is uploaded with all its empty space) on the machine that applies this. Uploaded once, when the gateway is made; later images come as updates into the other slot, not by Terraform."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9/._+-]+$", var.image)) && !can(regex("//", var.image))
    error_message = "The image is a file on this machine: a path of letters, digits and / . _ + - (no URL: what is installed was verified first)."
  }
}

variable "pool" {
  description = "Storage pool of the hypervisor that holds the disk."
  type        = string
  default     = "default"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", var.pool))
    error_message = "A pool's name has letters, digits and _ . - only."
  }
}

variable "disk_gib" {
  description = "Size of the disk in GiB. What the image does not need is for /var: the audit log and recordings (audit.retention.size) have to fit."
  type        = number
  default     = 40
  nullable    = false

  validation {
    condition     = var.disk_gib >= 4 && var.disk_gib <= 16384 && floor(var.disk_gib) == var.disk_gib
    error_message = "The disk has between 4 and 16384 GiB, in whole numbers."
  }
}

variable "memory_mib" {
  description = "Memory in MiB."
  type        = number
  default     = 4096
  nullable    = false

  validation {
    condition     = var.memory_mib >= 512 && var.memory_mib <= 1048576 && floor(var.memory_mib) == var.memory_mib
    error_message = "The memory is between 512 and 1048576 MiB, in whole numbers."
  }
}

variable "vcpus" {
  description = "Virtual processors."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.vcpus >= 1 && var.vcpus <= 256 && floor(var.vcpus) == var.vcpus
    error_message = "Between 1 and 256 virtual processors."
  }
}

variable "domain_type" {
  description = "kvm, or qemu where the hypervisor has no hardware virtualisation (tests: some thirty times slower)."
  type        = string
  default     = "kvm"
  nullable    = false

  validation {
    condition     = contains(["kvm", "qemu"], var.domain_type)
    error_message = "The domain's type is kvm or qemu."
  }
}

variable "cpu" {
  description = "host-passthrough, host-model, maximum, or the name of a model that libvirt knows (Nehalem)."
  type        = string
  default     = "host-passthrough"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", var.cpu))
    error_message = "The processor is host-passthrough, host-model, maximum, or the name of a model: letters, digits and _ . - only."
  }
}

variable "firmware" {
  description = "UEFI of the hypervisor: its code and the template of its variables. The defaults are Debian's package ovmf."
  type = object({
    code      = optional(string, "/usr/share/OVMF/OVMF_CODE_4M.fd")
    variables = optional(string, "/usr/share/OVMF/OVMF_VARS_4M.fd")
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for path in values(var.firmware) : can(regex("^/[A-Za-z0-9/._+-]+$", path))])
    error_message = "The firmware's files are absolute paths of letters, digits and / . _ + - on the hypervisor."
  }
}

variable "console_log" {
  description = "Absolute path of a file on the hypervisor that keeps what the serial console says; empty for none."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.console_log == "" || can(regex("^/[A-Za-z0-9/._+-]+$", var.console_log))
    error_message = "The console's log is an absolute path of letters, digits and / . _ + -."
  }
}

# --- where it is in the network -----------------------------------------------------------------------------------------

variable "interfaces" {
  description = "Network interfaces in order. Each is in a network of libvirt (network_id) or on an existing bridge of the hypervisor (bridge). Addresses are static, ADDRESS/PREFIX. `mac` is derived from the gateway's and the interface's name where it is not given."
  type = list(object({
    name       = string
    network_id = optional(string)
    bridge     = optional(string)
    mac        = optional(string)
    addresses  = list(string)
    gateway    = optional(string)
    routes     = optional(list(object({ to = string, via = string })), [])
  }))
  nullable = false

  validation {
    condition     = length(var.interfaces) >= 1 && length(var.interfaces) <= 8
    error_message = "A gateway has between one and eight interfaces."
  }

  validation {
    condition     = alltrue([for i in var.interfaces : can(regex("^[a-z]([a-z0-9-]{0,29}[a-z0-9])?$", i.name))]) && length(distinct(var.interfaces[*].name)) == length(var.interfaces)
    error_message = "An interface's name has small letters, digits and hyphens, at most 31, begins with a letter, and no two are the same."
  }

  validation {
    condition     = alltrue([for i in var.interfaces : (i.network_id == null) != (i.bridge == null)])
    error_message = "Each interface has either a network_id or a bridge."
  }

  validation {
    condition     = alltrue([for i in var.interfaces : i.bridge == null || can(regex("^[A-Za-z][A-Za-z0-9_.-]{0,14}$", i.bridge))])
    error_message = "A bridge is the name of a network device: letters, digits and _ . -, at most 15."
  }

  validation {
    condition     = alltrue([for i in var.interfaces : i.mac == null || can(regex("^[0-9a-fA-F][26aeAE048cC](:[0-9a-fA-F]{2}){5}$", i.mac))])
    error_message = "A MAC address is six pairs of hexadecimal digits with colons, and not a multicast address (52:54:00:12:34:56)."
  }

  validation {
    condition     = alltrue([for i in var.interfaces : length(i.addresses) > 0 && alltrue([for a in i.addresses : can(regex("^[0-9A-Fa-f:.]+/[0-9]+$", a)) && can(cidrhost(a, 0))])])
    error_message = "Each interface has at least one address, with its prefix: 192.0.2.11/24 or 2001:db8::11/64."
  }

  validation {
    condition     = alltrue([for i in var.interfaces : i.gateway == null || anytrue([for a in i.addresses : try(cidrhost("${i.gateway}/${split("/", a)[1]}", 0) == cidrhost(a, 0), false)])])
    error_message = "An interface's gateway is an address in one of its networks, without a prefix: 192.0.2.1."
  }

  validation {
    condition     = length([for i in var.interfaces : i if i.gateway != null]) <= 1
    error_message = "At most one interface has a gateway; other networks are reached by routes."
  }

  validation {
    condition     = alltrue(flatten([for i in var.interfaces : [for r in i.routes : can(regex("^[0-9A-Fa-f:.]+/[0-9]+$", r.to)) && try(cidrhost(r.to, 0) == lower(split("/", r.to)[0]), false) && anytrue([for a in i.addresses : try(cidrhost("${r.via}/${split("/", a)[1]}", 0) == cidrhost(a, 0), false)])]]))
    error_message = "A route goes to a network (198.51.100.0/24) via an address in one of the interface's networks (192.0.2.254)."
  }
}

variable "name_servers" {
  description = "Addresses of name servers. None where policy names its targets by address."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for a in var.name_servers : can(cidrhost("${a}/32", 0)) || can(cidrhost("${a}/128", 0))])
    error_message = "A name server is an address: 192.0.2.53."
  }
}

variable "time_servers" {
  description = "Addresses of time servers. Tokens, windows and expiry follow the clock."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for a in var.time_servers : can(cidrhost("${a}/32", 0)) || can(cidrhost("${a}/128", 0))])
    error_message = "A time server is an address: 192.0.2.123."
  }
}

# --- what first boot gets: public things only, for all of it is in the state --------------------------------------------

variable "management" {
  description = "Who may manage it, and from where, until Ansible has come: networks, public SSH keys, and the public key of an SSH user CA."
  type = object({
    networks        = list(string)
    authorized_keys = optional(list(string), [])
    user_ca         = optional(string, "")
  })
  nullable = false

  validation {
    condition     = length(var.management.networks) > 0 && alltrue([for n in var.management.networks : can(regex("^[0-9A-Fa-f:.]+/[0-9]+$", n)) && try(cidrhost(n, 0) == lower(split("/", n)[0]), false)])
    error_message = "At least one management network is needed, as NETWORK/PREFIX with the network's first address: 203.0.113.0/24."
  }

  validation {
    condition     = alltrue([for n in var.management.networks : !can(regex("/0$", n))])
    error_message = "A management network of /0 is everybody."
  }

  validation {
    condition     = alltrue([for k in var.management.authorized_keys : can(regex("^(ssh-ed25519 AAAAC3NzaC1lZDI1NTE5|ssh-rsa AAAAB3NzaC1yc2|sk-ssh-ed25519@openssh\\.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t)[A-Za-z0-9+/]{32,}={0,3}( [A-Za-z0-9@._-]{1,100})?$", k))])
    error_message = "A management key is the line of a public key file: type, key and a comment of letters, digits and @ . _ -, without options. Private keys never go by Terraform."
  }

  validation {
    condition     = var.management.user_ca == "" || can(regex("^(ssh-ed25519 AAAAC3NzaC1lZDI1NTE5|ssh-rsa AAAAB3NzaC1yc2|sk-ssh-ed25519@openssh\\.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t)[A-Za-z0-9+/]{32,}={0,3}( [A-Za-z0-9@._-]{1,100})?$", var.management.user_ca))
    error_message = "The user CA is the line of a public key file: type, key and a comment."
  }

  validation {
    condition     = length(var.management.authorized_keys) > 0 || var.management.user_ca != ""
    error_message = "Without a management key or a user CA nobody gets in."
  }
}

variable "segment_folder" {
  description = "Folder of the segment in the inventory (policy/, trust/ and perhaps gateway.yaml), given to the gateway as its first policy; null where Ansible brings it."
  type        = string
  default     = null

  validation {
    condition     = var.segment_folder == null || can(regex("^[A-Za-z0-9/._+-]+$", var.segment_folder))
    error_message = "The segment's folder is a path of letters, digits and / . _ + -."
  }
}

variable "credentials" {
  description = "More public credentials for systemd in the machine, by name (systemd.system-credentials(7)). Not for secrets: the state keeps them, and anybody who may read the domain in libvirt sees them."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name, value in var.credentials : can(regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", name))])
    error_message = "A credential's name has letters, digits and . _ - only."
  }

  validation {
    condition     = alltrue([for name, value in var.credentials : !startswith(name, "lockgate.")])
    error_message = "lockgate.firstboot and lockgate.segment are made by this module; lockgate.credentials and lockgate.break-glass are secret and never go by Terraform."
  }

  validation {
    condition     = alltrue([for name, value in var.credentials : !can(regex("PRIVATE KEY|passw(or)?d|secret|token", "${name} ${value}"))])
    error_message = "This looks like a secret. Secrets never go by Terraform: they would stay in its state. Ansible brings them (gateway_credentials)."
  }
}
