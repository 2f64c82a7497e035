/**
 * Names of PCI class codes: base class, subclass and programming interface, as the PCI Code and ID
 * Assignment Specification gives them out.
 *
 * @module
 */

import { hexDigits } from "../text/hex.ts";

/**
 * Keys are the hexadecimal digits of a class code: base class, with subclass, with programming
 * interface.
 */
const NAMES: Readonly<Record<string, string>> = {
  "00": "Unclassified device",
  "0000": "Non-VGA unclassified device",
  "0001": "VGA compatible unclassified device",
  "01": "Mass storage controller",
  "0100": "SCSI storage controller",
  "0101": "IDE interface",
  "0102": "Floppy disk controller",
  "0103": "IPI bus controller",
  "0104": "RAID bus controller",
  "0105": "ATA controller",
  "010520": "ADMA single stepping",
  "010530": "ADMA continuous operation",
  "0106": "SATA controller",
  "010600": "Vendor specific",
  "010601": "AHCI 1.0",
  "010602": "Serial Storage Bus",
  "0107": "Serial Attached SCSI controller",
  "010701": "Serial Storage Bus",
  "0108": "Non-Volatile memory controller",
  "010801": "NVMHCI",
  "010802": "NVM Express",
  "010803": "NVM Express administrative controller",
  "0109": "Universal Flash Storage controller",
  "010901": "UFSHCI",
  "0180": "Mass storage controller",
  "02": "Network controller",
  "0200": "Ethernet controller",
  "0201": "Token ring network controller",
  "0202": "FDDI network controller",
  "0203": "ATM network controller",
  "0204": "ISDN controller",
  "0205": "WorldFip controller",
  "0206": "PICMG controller",
  "0207": "InfiniBand controller",
  "0208": "Fabric controller",
  "0280": "Network controller",
  "03": "Display controller",
  "0300": "VGA compatible controller",
  "030000": "VGA controller",
  "030001": "8514 controller",
  "0301": "XGA compatible controller",
  "0302": "3D controller",
  "0380": "Display controller",
  "04": "Multimedia controller",
  "0400": "Multimedia video controller",
  "0401": "Multimedia audio controller",
  "0402": "Computer telephony device",
  "0403": "Audio device",
  "0480": "Multimedia controller",
  "05": "Memory controller",
  "0500": "RAM memory",
  "0501": "FLASH memory",
  "0502": "CXL memory device",
  "050210": "CXL.mem",
  "0580": "Memory controller",
  "06": "Bridge",
  "0600": "Host bridge",
  "0601": "ISA bridge",
  "0602": "EISA bridge",
  "0603": "MicroChannel bridge",
  "0604": "PCI bridge",
  "060400": "Normal decode",
  "060401": "Subtractive decode",
  "0605": "PCMCIA bridge",
  "0606": "NuBus bridge",
  "0607": "CardBus bridge",
  "0608": "RACEway bridge",
  "060800": "Transparent mode",
  "060801": "Endpoint mode",
  "0609": "Semi-transparent PCI-to-PCI bridge",
  "060940": "Primary bus towards host CPU",
  "060980": "Secondary bus towards host CPU",
  "060a": "InfiniBand to PCI host bridge",
  "0680": "Bridge",
  "07": "Communication controller",
  "0700": "Serial controller",
  "070000": "8250",
  "070001": "16450",
  "070002": "16550",
  "070003": "16650",
  "070004": "16750",
  "070005": "16850",
  "070006": "16950",
  "0701": "Parallel controller",
  "070100": "SPP",
  "070101": "BiDir",
  "070102": "ECP",
  "070103": "IEEE 1284",
  "0702": "Multiport serial controller",
  "0703": "Modem",
  "070300": "Generic",
  "0704": "GPIB controller",
  "0705": "Smart Card controller",
  "0780": "Communication controller",
  "08": "Generic system peripheral",
  "0800": "PIC",
  "080000": "8259",
  "080001": "ISA PIC",
  "080002": "EISA PIC",
  "080010": "IO-APIC",
  "080020": "IO(X)-APIC",
  "0801": "DMA controller",
  "080100": "8237",
  "0802": "Timer",
  "080200": "8254",
  "080203": "HPET",
  "0803": "RTC",
  "0804": "PCI Hot-plug controller",
  "0805": "SD Host controller",
  "080500": "PIO only",
  "080501": "DMA",
  "0806": "IOMMU",
  "0807": "Root Complex Event Collector",
  "0880": "System peripheral",
  "09": "Input device controller",
  "0900": "Keyboard controller",
  "0901": "Digitizer Pen",
  "0902": "Mouse controller",
  "0903": "Scanner controller",
  "0904": "Gameport controller",
  "0980": "Input device controller",
  "0a": "Docking station",
  "0a00": "Generic Docking Station",
  "0a80": "Docking Station",
  "0b": "Processor",
  "0b00": "386",
  "0b01": "486",
  "0b02": "Pentium",
  "0b10": "Alpha",
  "0b20": "Power PC",
  "0b30": "MIPS",
  "0b40": "Co-processor",
  "0b80": "Processor",
  "0c": "Serial bus controller",
  "0c00": "FireWire (IEEE 1394)",
  "0c0010": "OHCI",
  "0c01": "ACCESS Bus",
  "0c02": "SSA",
  "0c03": "USB controller",
  "0c0300": "UHCI",
  "0c0310": "OHCI",
  "0c0320": "EHCI",
  "0c0330": "XHCI",
  "0c0340": "USB4 Host Interface",
  "0c0380": "Unspecified",
  "0c03fe": "USB Device",
  "0c04": "Fibre Channel",
  "0c05": "SMBus",
  "0c06": "InfiniBand",
  "0c07": "IPMI Interface",
  "0c0700": "SMIC",
  "0c0701": "KCS",
  "0c0702": "BT (Block Transfer)",
  "0c08": "SERCOS interface",
  "0c09": "CANBUS",
  "0c0a": "I3C interface",
  "0c80": "Serial bus controller",
  "0d": "Wireless controller",
  "0d00": "IRDA controller",
  "0d01": "Consumer IR controller",
  "0d10": "RF controller",
  "0d11": "Bluetooth",
  "0d12": "Broadband",
  "0d20": "802.1a controller",
  "0d21": "802.1b controller",
  "0d80": "Wireless controller",
  "0e": "Intelligent controller",
  "0e00": "I2O",
  "0f": "Satellite communications controller",
  "0f01": "Satellite TV controller",
  "0f02": "Satellite audio communication controller",
  "0f03": "Satellite voice communication controller",
  "0f04": "Satellite data communication controller",
  "10": "Encryption controller",
  "1000": "Network and computing encryption device",
  "1010": "Entertainment encryption device",
  "1080": "Encryption controller",
  "11": "Signal processing controller",
  "1100": "DPIO module",
  "1101": "Performance counters",
  "1110": "Communication synchronizer",
  "1120": "Signal processing management",
  "1180": "Signal processing controller",
  "12": "Processing accelerators",
  "1200": "Processing accelerators",
  "13": "Non-Essential Instrumentation",
  "40": "Coprocessor",
  "ff": "Unassigned class",
};

/** The names of a class code; those that are not known are not there. */
export interface ClassNames {
  /** The name of the base class, as "Mass storage controller". */
  base?: string;
  /** The name of the subclass, as "Non-Volatile memory controller". */
  sub?: string;
  /** The name of the programming interface, as "NVM Express". */
  progIf?: string;
}

/**
 * Looks up the names of a class code of three bytes: base class, subclass, programming interface.
 *
 * @example
 * ```ts
 * import { classNames } from "./class.ts";
 *
 * const { sub, progIf } = classNames(0x010802);
 * if (sub !== "Non-Volatile memory controller" || progIf !== "NVM Express") throw new Error();
 * ```
 */
export function classNames(classCode: number): ClassNames {
  const digits = hexDigits(classCode & 0xffffff, 6);
  const names: ClassNames = {};
  const base = NAMES[digits.slice(0, 2)];
  const sub = NAMES[digits.slice(0, 4)];
  const progIf = NAMES[digits];
  if (base !== undefined) names.base = base;
  if (sub !== undefined) names.sub = sub;
  if (progIf !== undefined) names.progIf = progIf;
  return names;
}
